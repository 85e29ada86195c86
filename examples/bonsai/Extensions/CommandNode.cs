using IblBridge;
using System;
using System.ComponentModel;

namespace Bonsai.IblBridge
{
    /// <summary>What <see cref="Request"/> and <see cref="SendCommand"/> have in common: which command goes to whom, and
    /// how long it may take.</summary>
    [Combinator]
    [DefaultProperty("Message")]
    public abstract class CommandNode
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
        [Description("How long a command may take until its response, in ms. What no worker took by then is never " +
            "sent.")]
        public int TimeoutMs
        {
            get { return timeoutMs; }
            set { timeoutMs = Check.Time(value); }
        }

        /// <summary>Initializes a new instance of the <see cref="CommandNode"/> class.</summary>
        protected CommandNode()
        {
            BridgeName = BridgeNameConverter.DefaultName;
            Services = Arguments = "";
        }

        // As the properties stand when the element arrives.
        internal Command Command(object element)
        {
            return new Command(Message, Services, Arguments, TimeoutMs, element);
        }
    }
}
