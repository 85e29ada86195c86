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
    [DefaultProperty("Message")]
    [Description("Sends a command to services for each element, and emits their responses in the same order.")]
    public class Request : Combinator<Response>
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

        /// <summary>Gets or sets how long an element waits for its response, in ms.</summary>
        [Category("Command")]
        [DefaultValue(12000)]
        [Range(0, 3600000)]
        [Editor(DesignTypes.NumericUpDownEditor, DesignTypes.UITypeEditor)]
        [Description("How long a command waits for its response, in ms. What no worker took by then is never sent.")]
        public int TimeoutMs
        {
            get { return timeoutMs; }
            set { timeoutMs = Check.Time(value); }
        }

        /// <summary>Gets or sets what becomes of a command that failed.</summary>
        [Category("Command")]
        [DefaultValue(ErrorMode.Throw)]
        [Description("What becomes of a command that failed. Throw: it ends the sequence with its error. Emit: it is " +
            "a response with a Code below 0, an Error, and what each service did.")]
        public ErrorMode OnError { get; set; }

        /// <summary>Initializes a new instance of the <see cref="Request"/> class.</summary>
        public Request()
        {
            BridgeName = BridgeNameConverter.DefaultName;
            Services = Arguments = "";
        }

        /// <summary>Sends a command for each element. The source does not wait for responses.</summary>
        /// <typeparam name="TSource">Any type; text may be the arguments.</typeparam>
        /// <param name="source">Each element sends one command.</param>
        /// <returns>One response per element, in order.</returns>
        public override IObservable<Response> Process<TSource>(IObservable<TSource> source)
        {
            return Session.Of(
                BridgeName,
                session => source.Select(element => session.Ask(
                    new Command(Message, Services, Arguments, TimeoutMs, element), OnError)).Concat());
        }
    }
}
