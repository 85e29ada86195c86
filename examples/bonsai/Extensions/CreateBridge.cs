using IblBridge;
using System;
using System.ComponentModel;
using System.Diagnostics;
using System.Reactive.Linq;

[assembly: Bonsai.XmlNamespacePrefix("clr-namespace:Bonsai.IblBridge", "ibl")]

namespace Bonsai.IblBridge
{
    /// <summary>Opens a bridge to the services of a rig, for all operators that say its name.</summary>
    [DefaultProperty("Name")]
    [Description("Opens a bridge to the services of a rig, for all operators that say its name.")]
    public class CreateBridge : Source<BridgeClient>, INamedElement
    {
        int timeoutMs = 2000;
        Message onStop;

        /// <summary>Gets or sets the name of the bridge.</summary>
        [Category("Connection")]
        [DefaultValue(BridgeNameConverter.DefaultName)]
        [Description("The name of the bridge: what other operators say in BridgeName.")]
        public string Name { get; set; }

        /// <summary>Gets or sets the segment to attach to.</summary>
        [Category("Connection")]
        [DefaultValue("rig0")]
        [Description("The segment of the rig, as in: iblbridge serve --segment rig0.")]
        public string Segment { get; set; }

        /// <summary>Gets or sets the client's name on the segment.</summary>
        [Category("Connection")]
        [DefaultValue("")]
        [Description("What this workflow is called on the segment, 1 to 63 bytes. Empty: bonsai, or bonsai-2 and so " +
            "on if another workflow or another Bonsai is called that.")]
        public string Client { get; set; }

        /// <summary>Gets or sets how long to wait for a segment and a worker, in ms.</summary>
        [Category("Connection")]
        [DefaultValue(2000)]
        [Range(0, 600000)]
        [Editor(DesignTypes.NumericUpDownEditor, DesignTypes.UITypeEditor)]
        [Description("How long the start of the workflow waits for a segment and a worker, in ms.")]
        public int TimeoutMs
        {
            get { return timeoutMs; }
            set { timeoutMs = Check.Time(value); }
        }

        /// <summary>Gets or sets what all services are told when the workflow stops.</summary>
        [Category("Command")]
        [TypeConverter(typeof(CommandsConverter))]
        [Description("What all services are told when the workflow stops, however it stops: EXPEND, or EXPEND, " +
            "EXPCLEANUP. Nobody waits for the answers; they stand in the journal of the worker. Empty: nothing.")]
        public Message OnStop
        {
            get { return onStop; }
            set { onStop = Check.Commands(value); }
        }

        /// <summary>Initializes a new instance of the <see cref="CreateBridge"/> class.</summary>
        public CreateBridge()
        {
            Name = BridgeNameConverter.DefaultName;
            Segment = "rig0";
            Client = "";
        }

        /// <summary>Opens the bridge and emits it; keeps it open until the subscription ends.</summary>
        /// <returns>A sequence of one element, the client, that does not complete.</returns>
        public override IObservable<BridgeClient> Generate()
        {
            return Observable.Using(
                () => new Attachment(this),
                attachment => attachment.Open().Concat(Observable.Never<BridgeClient>()));
        }

        sealed class Attachment : IDisposable
        {
            const int LookMs = 50;

            readonly object gate = new object();
            readonly Bridge bridge;
            readonly Message onStop;
            readonly int timeoutMs;
            BridgeClient client; // null: not open yet
            bool ended;

            internal Attachment(CreateBridge node)
            {
                onStop = node.OnStop;
                timeoutMs = node.TimeoutMs;
                bridge = Bridge.Rent(node.Name);
                try
                {
                    bridge.BeginOpening(node.Segment, node.Client);
                }
                catch
                {
                    bridge.Return();
                    throw;
                }
            }

            // The first look is the subscriber's own; between two of them no thread waits. Without tasks: what a task
            // that is cancelled leaves to the thread pool may hang mono, if that ends just then.
            internal IObservable<BridgeClient> Open()
            {
                var age = Stopwatch.StartNew();
                return Observable.Return(0L).Concat(Observable.Interval(TimeSpan.FromMilliseconds(LookMs)))
                    .Select(_ => Look(age.ElapsedMilliseconds >= timeoutMs)).Where(found => found != null).Take(1);
            }

            BridgeClient Look(bool timeIsUp)
            {
                lock (gate)
                    return ended ? null : client = bridge.TryOpen(timeIsUp);
            }

            public void Dispose()
            {
                lock (gate)
                    ended = true;
                try
                {
                    if (client != null)
                        foreach (Message message in CommandsConverter.Split(onStop))
                            client.Notify(message);
                }
                catch (BridgeException error) // the workflow has ended: no sequence is left to say it
                {
                    Trace.TraceError("{0}: {1}", onStop, error.Message);
                }
                finally
                {
                    bridge.LeaveOpening();
                    bridge.Return();
                }
            }
        }
    }
}
