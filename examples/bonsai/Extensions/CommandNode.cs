using IblBridge;
using System;
using System.ComponentModel;
using System.Threading;
using System.Xml.Serialization;

namespace Bonsai.IblBridge
{
    /// <summary>What becomes of an element for whose command there is no room, because elements come faster than the
    /// services answer.</summary>
    public enum FullMode
    {
        /// <summary>It is an error: see OnError or Confirm of the operator.</summary>
        Error,
        /// <summary>The source is held up until there is room, TimeoutMs at most.</summary>
        Wait,
        /// <summary>Its command is never sent, and counted in Dropped.</summary>
        DropNewest,
    }

    /// <summary>What <see cref="Request"/> and <see cref="SendCommand"/> have in common: which command goes to whom,
    /// and how long it may take.</summary>
    [Combinator]
    [DefaultProperty("Message")]
    public abstract class CommandNode : INamedElement
    {
        int timeoutMs = 12000, dropped;
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
        [Description("How long a command may take until its response, in ms. What no worker took by then is never " +
            "sent.")]
        public int TimeoutMs
        {
            get { return timeoutMs; }
            set { timeoutMs = Check.Time(value); }
        }

        /// <summary>Gets or sets what becomes of an element for whose command there is no room.</summary>
        [Category("Flow")]
        [DefaultValue(FullMode.Error)]
        [Description("When elements come faster than the services answer. Error: a command for which there is no " +
            "room fails. Wait: the source is held up until there is room, TimeoutMs at most. DropNewest: the command " +
            "is left out, and counted in Dropped.")]
        public FullMode WhenFull { get; set; }

        /// <summary>Gets how many commands were left out since the workflow was started.</summary>
        [Category("Flow")]
        [XmlIgnore]
        [Description("How many commands were left out since the start of the workflow (WhenFull: DropNewest).")]
        public int Dropped { get { return dropped; } }

        // What Bonsai writes under the node; explicitly, so that it is not a property.
        string INamedElement.Name { get { return Message.ToString(); } }

        /// <summary>Initializes a new instance of the <see cref="CommandNode"/> class.</summary>
        protected CommandNode()
        {
            BridgeName = BridgeNameConverter.DefaultName;
            Services = Arguments = "";
        }

        internal void CountDropped()
        {
            Interlocked.Increment(ref dropped);
        }

        internal IObservable<T> Run<T>(Func<Session, IObservable<T>> sequence)
        {
            return Session.Of(BridgeName, session =>
            {
                dropped = 0;
                return sequence(session);
            });
        }

        // As the properties stand when the element arrives.
        internal Command Command(object element)
        {
            return new Command(this, element);
        }
    }
}
