using IblBridge;
using System;
using System.ComponentModel;
using System.Reactive.Linq;

namespace Bonsai.IblBridge
{
    /// <summary>Emits what services and the worker say by themselves.</summary>
    [DefaultProperty("Events")]
    [Description("Emits what services say by themselves (EXPINTERRUPT: a camera died), and what the worker sees.")]
    public class BridgeEvents : Source<BridgeEvent>, INamedElement
    {
        Message events = Message.EXPINTERRUPT;

        /// <summary>Gets or sets the name of the bridge.</summary>
        [Category("Connection")]
        [DefaultValue(BridgeNameConverter.DefaultName)]
        [TypeConverter(typeof(BridgeNameConverter))]
        [Description("The name of the bridge: that of a CreateBridge node.")]
        public string BridgeName { get; set; }

        /// <summary>Gets or sets which events are emitted.</summary>
        [Category("Events")]
        [TypeConverter(typeof(EventsConverter))]
        [Description("Which events, separated by commas: messages that services send by themselves, SERVICE_UP, " +
            "SERVICE_DOWN, CLIENT_LOST, WORKER_RESTARTED, EXPERIMENT_LOST, SERVICES_CHANGED.")]
        public Message Events
        {
            get { return events; }
            set { events = Check.Events(value); }
        }

        // What Bonsai writes under the node; explicitly, so that it is not a property.
        string INamedElement.Name { get { return Events.ToString(); } }

        /// <summary>Initializes a new instance of the <see cref="BridgeEvents"/> class.</summary>
        public BridgeEvents()
        {
            BridgeName = BridgeNameConverter.DefaultName;
        }

        /// <summary>Emits the events from now on, and goes on when there is another worker.</summary>
        /// <returns>A sequence that does not complete; it fails if the segment is replaced.</returns>
        public override IObservable<BridgeEvent> Generate()
        {
            return Session.Of(
                BridgeName,
                session => Observable.Create<BridgeEvent>(observer => session.Bridge.Listeners.Add(Events, observer)));
        }
    }
}
