using IblBridge;
using System;
using System.ComponentModel;
using System.Reactive.Linq;

namespace Bonsai.IblBridge
{
    /// <summary>What becomes of a command that failed.</summary>
    public enum ErrorMode
    {
        /// <summary>It ends the sequence with its error, and so the workflow.</summary>
        Throw,
        /// <summary>It is a response like others, with a Code below 0.</summary>
        Emit,
    }

    /// <summary>Sends a command for each element, and emits the responses in the same order.</summary>
    [WorkflowElementCategory(ElementCategory.Combinator)]
    [Description("Sends a command to services for each element, and emits their responses in the same order.")]
    public class Request : CommandNode
    {
        /// <summary>Gets or sets what becomes of a command that failed.</summary>
        [Category("Command")]
        [DefaultValue(ErrorMode.Throw)]
        [Description("What becomes of a command that failed. Throw: it ends the sequence with its error. Emit: it is " +
            "a response with a Code below 0, an Error, and what each service did.")]
        public ErrorMode OnError { get; set; }

        /// <summary>Sends a command for each element. The source does not wait for responses.</summary>
        /// <typeparam name="TSource">Any type; text may be the arguments.</typeparam>
        /// <param name="source">Each element sends one command.</param>
        /// <returns>One response per element that was not left out, in order.</returns>
        public IObservable<Response> Process<TSource>(IObservable<TSource> source)
        {
            return Run(session => source.Select(element => session.Ask(Command(element), OnError)).Concat()
                .Where(response => response != null)); // null: it was left out
        }
    }
}
