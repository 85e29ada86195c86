using IblBridge;
using System;
using System.ComponentModel;
using System.Reactive.Linq;
using System.Threading.Tasks;

namespace Bonsai.IblBridge
{
    /// <summary>Sends a command for each element, and passes the elements on.</summary>
    [DefaultProperty("Message")]
    [Description("Sends a command to services for each element, and passes the element on at once.")]
    public class SendCommand : Sink
    {
        int timeoutMs = 12000;
        Message message = Message.EXPSTATUS;

        /// <summary>Gets or sets the name of the bridge.</summary>
        [Category("Connection")]
        [DefaultValue(BridgeNameConverter.DefaultName)]
        [TypeConverter(typeof(BridgeNameConverter))]
        [Description("The name of the bridge: that of a CreateBridge node.")]
        public string BridgeName { get; set; }

        /// <summary>Gets or sets what the services are told.</summary>
        [Category("Command")]
        [TypeConverter(typeof(CommandConverter))]
        [Description("What the services are told.")]
        public Message Message
        {
            get { return message; }
            set { message = Check.Command(value); }
        }

        /// <summary>Gets or sets the services that are told.</summary>
        [Category("Command")]
        [DefaultValue("")]
        [Description("The names of services, separated by commas. Empty: all.")]
        public string Services { get; set; }

        /// <summary>Gets or sets the arguments of the command.</summary>
        [Category("Command")]
        [DefaultValue("")]
        [Editor(DesignTypes.MultilineStringEditor, DesignTypes.UITypeEditor)]
        [Description("The arguments: one text, such as 2026-01-01_1_subject, or JSON: an array of all of them, [20] " +
            "for example, or one object. Empty: the element if it is text, read the same way, else none; [] is none.")]
        public string Arguments { get; set; }

        /// <summary>Gets or sets how long a command may take, in ms.</summary>
        [Category("Command")]
        [DefaultValue(12000)]
        [Range(0, 3600000)]
        [Editor(DesignTypes.NumericUpDownEditor, DesignTypes.UITypeEditor)]
        [Description("How long a command may take, in ms. What no worker took by then is never sent.")]
        public int TimeoutMs
        {
            get { return timeoutMs; }
            set { timeoutMs = Check.Time(value); }
        }

        /// <summary>Gets or sets whether a command that failed ends the sequence.</summary>
        [Category("Command")]
        [DefaultValue(true)]
        [Description("Whether a command that failed ends the sequence with its error. If not, nobody waits for the " +
            "services: what became of it stands in the journal of the worker, and a stop does not cancel it.")]
        public bool Confirm { get; set; }

        /// <summary>Initializes a new instance of the <see cref="SendCommand"/> class.</summary>
        public SendCommand()
        {
            BridgeName = BridgeNameConverter.DefaultName;
            Services = Arguments = "";
            Confirm = true;
        }

        /// <summary>Sends a command for each element. The elements do not wait for the services.</summary>
        /// <typeparam name="TSource">Any type; text may be the arguments.</typeparam>
        /// <param name="source">Each element sends one command.</param>
        /// <returns>The same elements; with <see cref="Confirm"/>, its end comes when all commands succeeded.</returns>
        public override IObservable<TSource> Process<TSource>(IObservable<TSource> source)
        {
            return Session.Of(
                BridgeName,
                session => source.SelectMany(element => Observable.Return(element).Concat(
                    Observable.Return(Tell(session, element)).SelectMany(told => told)
                        .SelectMany(_ => Observable.Empty<TSource>()))));
        }

        Task<Response> Tell(Session session, object element)
        {
            var command = new Command(Message, Services, Arguments, TimeoutMs, element);
            return Confirm ? session.Ask(command, ErrorMode.Throw) : session.Tell(command);
        }
    }
}
