using IblBridge;
using System;
using System.ComponentModel;
using System.Reactive.Linq;

namespace Bonsai.IblBridge
{
    /// <summary>Emits what masters ask of this workflow.</summary>
    [DefaultProperty("Messages")]
    [Description("Emits what masters, such as a task on another PC, ask of this workflow. Each command is to reach " +
        "an Answer or Fail node.")]
    public class Serve : Source<BridgeCommand>, INamedElement
    {
        Message messages = BridgeClient.Served;

        /// <summary>Gets or sets the name of the bridge.</summary>
        [Category("Connection")]
        [DefaultValue(BridgeNameConverter.DefaultName)]
        [TypeConverter(typeof(BridgeNameConverter))]
        [Description("The name of the bridge: that of a CreateBridge node.")]
        public string BridgeName { get; set; }

        /// <summary>Gets or sets the name of the listener.</summary>
        [Category("Connection")]
        [DefaultValue("")]
        [Description("The listener of the worker, as in: iblbridge serve --listen udp://:11001 --as cameras. Empty: " +
            "the only one there is. All Serve nodes of a bridge have the same.")]
        public string Service { get; set; }

        /// <summary>Gets or sets which messages are emitted.</summary>
        [Category("Command")]
        [TypeConverter(typeof(ServedConverter))]
        [Description("Which messages, separated by commas. What no node of the bridge serves the worker answers " +
            "itself, EXPSTATUS and EXPINFO with what the workflow said last.")]
        public Message Messages
        {
            get { return messages; }
            set { messages = Check.Served(value); }
        }

        // What Bonsai writes under the node; explicitly, so that it is not a property.
        string INamedElement.Name
        {
            get { return Messages == BridgeClient.Served ? "Serve" : Messages.ToString(); }
        }

        /// <summary>Initializes a new instance of the <see cref="Serve"/> class.</summary>
        public Serve()
        {
            BridgeName = BridgeNameConverter.DefaultName;
            Service = "";
        }

        /// <summary>Emits the commands as they come, in a thread of its own, and goes on when there is another
        /// worker.</summary>
        /// <returns>A sequence that does not complete; it fails if the segment is replaced, or another program serves
        /// the listener.</returns>
        public override IObservable<BridgeCommand> Generate()
        {
            return Session.Of(
                BridgeName,
                session => Observable.Create<BridgeCommand>(observer => Subscribe(session.Bridge.Commands, observer)));
        }

        Action Subscribe(Commands commands, IObserver<BridgeCommand> observer)
        {
            try
            {
                return commands.Add(Service ?? "", Messages, observer);
            }
            catch (Exception error)
            {
                observer.OnError(error);
                return () => { };
            }
        }
    }
}
