using IblBridge;
using System;
using System.ComponentModel;
using System.Reactive.Linq;

namespace Bonsai.IblBridge
{
    /// <summary>Tells masters something for each element, without having been asked.</summary>
    [Combinator]
    [WorkflowElementCategory(ElementCategory.Sink)]
    [DefaultProperty("Message")]
    [Description("Tells the masters of this workflow something for each element, and passes the element on. It needs " +
        "a Serve node on the same bridge.")]
    public class Tell : INamedElement
    {
        Message message = Message.EXPINTERRUPT;

        /// <summary>Gets or sets the name of the bridge.</summary>
        [Category("Connection")]
        [DefaultValue(BridgeNameConverter.DefaultName)]
        [TypeConverter(typeof(BridgeNameConverter))]
        [Description("The name of the bridge: that of a CreateBridge node.")]
        public string BridgeName { get; set; }

        /// <summary>Gets or sets what is told.</summary>
        [Category("Command")]
        [TypeConverter(typeof(ToldConverter))]
        [Description("EXPINTERRUPT: what the workflow does has ended, a camera died. EXPSTATUS: the status that it " +
            "is in from now on. EXPINFO: what the worker answers to EXPINFO from now on.")]
        public Message Message
        {
            get { return message; }
            set { message = Check.Told(value); }
        }

        /// <summary>Gets or sets what is told with it.</summary>
        [Category("Command")]
        [DefaultValue("")]
        [Editor(DesignTypes.MultilineStringEditor, DesignTypes.UITypeEditor)]
        [Description("What is told with it: JSON, or one text; of EXPSTATUS the status, 20 (RUNNING) or 30 " +
            "(STOPPED). Empty: the element if it is text, read the same way, else nothing.")]
        public string Data { get; set; }

        // What Bonsai writes under the node; explicitly, so that it is not a property.
        string INamedElement.Name { get { return Message.ToString(); } }

        /// <summary>Initializes a new instance of the <see cref="Tell"/> class.</summary>
        public Tell()
        {
            BridgeName = BridgeNameConverter.DefaultName;
            Data = "";
        }

        /// <summary>Tells something for each element.</summary>
        /// <typeparam name="TSource">Any type; text may be the data.</typeparam>
        /// <param name="source">Each element is told of once.</param>
        /// <returns>The same elements; it fails if the workflow serves nothing.</returns>
        public IObservable<TSource> Process<TSource>(IObservable<TSource> source)
        {
            return Session.Of(BridgeName, session => source.SelectMany(element =>
                Observable.Return(session.Say(Message, Check.Json(Data) ?? Check.Json(element as string)))
                    .SelectMany(told => told).Select(_ => element)));
        }
    }
}
