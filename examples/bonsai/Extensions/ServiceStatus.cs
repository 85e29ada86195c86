using IblBridge;
using System;
using System.ComponentModel;
using System.Linq;
using System.Reactive.Linq;

namespace Bonsai.IblBridge
{
    /// <summary>What a service says that it does.</summary>
    public enum ServiceStatusCode
    {
        /// <summary>It did not say it.</summary>
        UNKNOWN = -1,
        /// <summary>It is there.</summary>
        CONNECTED = global::IblBridge.ServiceStatus.CONNECTED,
        /// <summary>It is prepared.</summary>
        INITIALIZED = global::IblBridge.ServiceStatus.INITIALIZED,
        /// <summary>It runs an experiment.</summary>
        RUNNING = global::IblBridge.ServiceStatus.RUNNING,
        /// <summary>Its experiment has ended.</summary>
        STOPPED = global::IblBridge.ServiceStatus.STOPPED,
    }

    /// <summary>What one service does.</summary>
    public sealed class ServiceState
    {
        internal ServiceState(ServiceOutcome outcome)
        {
            Name = outcome.Name;
            Status = Enum.IsDefined(typeof(ServiceStatusCode), outcome.Status)
                ? (ServiceStatusCode)outcome.Status : ServiceStatusCode.UNKNOWN;
            ExpRef = outcome.ExpRef;
            Error = outcome.Error;
        }

        internal ServiceState(string error)
        {
            Name = ExpRef = "";
            Status = ServiceStatusCode.UNKNOWN;
            Error = error;
        }

        /// <summary>Gets the name of the service; "" if none was asked.</summary>
        public string Name { get; private set; }

        /// <summary>Gets what it says that it does.</summary>
        public ServiceStatusCode Status { get; private set; }

        /// <summary>Gets the experiment that it names, or "".</summary>
        public string ExpRef { get; private set; }

        /// <summary>Gets why it did not answer, or "".</summary>
        public string Error { get; private set; }

        /// <summary>Such as: cameras: RUNNING 2026-01-01_1_subject.</summary>
        public override string ToString()
        {
            return Name == "" ? Error : Name + ": " + Status + (ExpRef == "" ? "" : " " + ExpRef);
        }
    }

    /// <summary>Asks services what they do, for each element.</summary>
    [DefaultProperty("Services")]
    [Description("Asks services for each element what they do (EXPINFO), and emits the status and the experiment of " +
        "each one. If none can be asked, it emits one element without a name, whose Error says why.")]
    public class ServiceStatus : Combinator<ServiceState>
    {
        int timeoutMs = 12000;

        /// <summary>Gets or sets the name of the bridge.</summary>
        [Category("Connection")]
        [DefaultValue(BridgeNameConverter.DefaultName)]
        [TypeConverter(typeof(BridgeNameConverter))]
        [Description("The name of the bridge: that of a CreateBridge node.")]
        public string BridgeName { get; set; }

        /// <summary>Gets or sets the services that are asked.</summary>
        [Category("Command")]
        [DefaultValue("")]
        [Description("The names of services, separated by commas. Empty: all.")]
        public string Services { get; set; }

        /// <summary>Gets or sets how long an answer may take, in ms.</summary>
        [Category("Command")]
        [DefaultValue(12000)]
        [Range(0, 3600000)]
        [Editor(DesignTypes.NumericUpDownEditor, DesignTypes.UITypeEditor)]
        [Description("How long the answers may take, in ms.")]
        public int TimeoutMs
        {
            get { return timeoutMs; }
            set { timeoutMs = Check.Time(value); }
        }

        /// <summary>Initializes a new instance of the <see cref="ServiceStatus"/> class.</summary>
        public ServiceStatus()
        {
            BridgeName = BridgeNameConverter.DefaultName;
            Services = "";
        }

        /// <summary>Asks for each element. The source does not wait for answers.</summary>
        /// <typeparam name="TSource">Any type.</typeparam>
        /// <param name="source">Each element asks once; it is left out if there are too many.</param>
        /// <returns>What each service does, in configured order, for each element.</returns>
        public override IObservable<ServiceState> Process<TSource>(IObservable<TSource> source)
        {
            var request = new Request
            {
                BridgeName = BridgeName,
                Message = Message.EXPINFO,
                Arguments = "[]", // whatever the element is
                OnError = ErrorMode.Emit,
                WhenFull = FullMode.DropNewest,
            };
            return request.Process(source.Do(_ =>
            {
                request.Services = Services;
                request.TimeoutMs = TimeoutMs;
            })).SelectMany(response => response.Services.Count == 0
                ? new[] { new ServiceState(response.Error) }
                : response.Services.Select(outcome => new ServiceState(outcome)));
        }
    }
}
