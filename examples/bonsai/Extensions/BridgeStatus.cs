using IblBridge;
using System;
using System.ComponentModel;
using System.Reactive.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace Bonsai.IblBridge
{
    /// <summary>Emits whether a worker lives and how many services are up.</summary>
    [DefaultProperty("PeriodMs")]
    [Description("Emits whether a worker lives and how many services are up, now and when it changes. Asks nobody.")]
    public class BridgeStatus : Source<WorkerState>
    {
        int periodMs = 500;

        /// <summary>Gets or sets the name of the bridge.</summary>
        [Category("Connection")]
        [DefaultValue(BridgeNameConverter.DefaultName)]
        [TypeConverter(typeof(BridgeNameConverter))]
        [Description("The name of the bridge: that of a CreateBridge node.")]
        public string BridgeName { get; set; }

        /// <summary>Gets or sets how often to look, in ms.</summary>
        [Category("Timing")]
        [DefaultValue(500)]
        [Range(10, 3600000)]
        [Editor(DesignTypes.NumericUpDownEditor, DesignTypes.UITypeEditor)]
        [Description("How often to look, in ms, at least 10.")]
        public int PeriodMs
        {
            get { return periodMs; }
            set { periodMs = Math.Max(10, Check.Time(value)); }
        }

        /// <summary>Initializes a new instance of the <see cref="BridgeStatus"/> class.</summary>
        public BridgeStatus()
        {
            BridgeName = BridgeNameConverter.DefaultName;
        }

        /// <summary>Emits the state now and each time it changes.</summary>
        /// <returns>A sequence that does not complete; it fails if the segment is replaced.</returns>
        public override IObservable<WorkerState> Generate()
        {
            return Session.Of(
                BridgeName,
                session => Observable.Create<WorkerState>((observer, stop) => Look(session.Bridge, observer, stop)))
                .DistinctUntilChanged(state => Tuple.Create(state.Alive, state.Services, state.ServicesUp));
        }

        async Task Look(Bridge bridge, IObserver<WorkerState> observer, CancellationToken stop)
        {
            BridgeClient client = await bridge.Client().ConfigureAwait(false);
            while (!stop.IsCancellationRequested)
            {
                observer.OnNext(client.State);
                await Task.Delay(PeriodMs, stop).ConfigureAwait(false);
            }
        }
    }
}
