using IblBridge;
using System;
using System.ComponentModel;
using System.Reactive.Linq;
using System.Threading.Tasks;

namespace Bonsai.IblBridge
{
    /// <summary>Sends a command for each element, and passes the elements on.</summary>
    [WorkflowElementCategory(ElementCategory.Sink)]
    [Description("Sends a command to services for each element, and passes the element on at once.")]
    public class SendCommand : CommandNode
    {
        /// <summary>Gets or sets whether a command that failed ends the sequence.</summary>
        [Category("Command")]
        [DefaultValue(true)]
        [Description("Whether a command that failed ends the sequence with its error. If not, nobody waits for the " +
            "services: what became of it stands in the journal of the worker, and a stop does not cancel it.")]
        public bool Confirm { get; set; }

        /// <summary>Initializes a new instance of the <see cref="SendCommand"/> class.</summary>
        public SendCommand()
        {
            Confirm = true;
        }

        /// <summary>Sends a command for each element. The elements do not wait for the services.</summary>
        /// <typeparam name="TSource">Any type; text may be the arguments.</typeparam>
        /// <param name="source">Each element sends one command.</param>
        /// <returns>The same elements; with <see cref="Confirm"/>, its end comes when all commands succeeded.</returns>
        public IObservable<TSource> Process<TSource>(IObservable<TSource> source)
        {
            return Run(session => source.SelectMany(element => Observable.Return(element).Concat(
                Observable.Return(Tell(session, Command(element))).SelectMany(told => told)
                    .SelectMany(_ => Observable.Empty<TSource>()))));
        }

        Task<Response> Tell(Session session, Command command)
        {
            return Confirm ? session.Ask(command, ErrorMode.Throw) : session.Tell(command);
        }
    }
}
