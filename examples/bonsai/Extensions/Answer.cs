using IblBridge;
using System;
using System.ComponentModel;
using System.Reactive.Linq;

namespace Bonsai.IblBridge
{
    /// <summary>What a workflow says that it does, when it answers.</summary>
    public enum AnswerStatus
    {
        /// <summary>What is usual after the message: INITIALIZED after EXPINIT, RUNNING after EXPSTART, STOPPED after
        /// EXPEND and EXPINTERRUPT, CONNECTED after EXPCLEANUP.</summary>
        Usual = -1,
        /// <summary>It is there.</summary>
        CONNECTED = global::IblBridge.ServiceStatus.CONNECTED,
        /// <summary>It is prepared.</summary>
        INITIALIZED = global::IblBridge.ServiceStatus.INITIALIZED,
        /// <summary>It runs an experiment.</summary>
        RUNNING = global::IblBridge.ServiceStatus.RUNNING,
        /// <summary>Its experiment has ended.</summary>
        STOPPED = global::IblBridge.ServiceStatus.STOPPED,
    }

    /// <summary>Answers commands of Serve nodes: they were done.</summary>
    [Combinator]
    [WorkflowElementCategory(ElementCategory.Sink)]
    [DefaultProperty("Data")]
    [Description("Answers commands of Serve nodes, which says that they were done, and passes them on. Of a pair " +
        "(Zip, WithLatestFrom) the second is the data of the answer.")]
    public class Answer
    {
        /// <summary>Gets or sets what the workflow does now.</summary>
        [Category("Command")]
        [DefaultValue(AnswerStatus.Usual)]
        [Description("What the workflow does now. Usual: as it is after this message, RUNNING after EXPSTART.")]
        public AnswerStatus Status { get; set; }

        /// <summary>Gets or sets what the master gets with the answer.</summary>
        [Category("Command")]
        [DefaultValue("")]
        [Editor(DesignTypes.MultilineStringEditor, DesignTypes.UITypeEditor)]
        [Description("What the master gets with the answer: JSON, or one text. An object, {\"file\": \"a.avi\"}, " +
            "becomes part of the reply; anything else is its value. Empty: the second of a pair, else nothing.")]
        public string Data { get; set; }

        /// <summary>Initializes a new instance of the <see cref="Answer"/> class.</summary>
        public Answer()
        {
            Status = AnswerStatus.Usual;
            Data = "";
        }

        /// <summary>Answers each command.</summary>
        /// <param name="source">Commands of Serve nodes; the first answer to each counts.</param>
        /// <returns>The same commands; IsLate says that the master was told already that it failed.</returns>
        public IObservable<BridgeCommand> Process(IObservable<BridgeCommand> source)
        {
            return Reply.To(source, command => command, command => Say(command, () => null));
        }

        /// <summary>Answers the command of each pair with the other one as data.</summary>
        /// <typeparam name="TData">Text, a number, a list or a dictionary.</typeparam>
        /// <param name="source">Commands of Serve nodes, and their data.</param>
        /// <returns>The same pairs.</returns>
        public IObservable<Tuple<BridgeCommand, TData>> Process<TData>(IObservable<Tuple<BridgeCommand, TData>> source)
        {
            return Reply.To(source, pair => pair.Item1, pair => Say(pair.Item1, () => Json.Write(pair.Item2)));
        }

        void Say(BridgeCommand command, Func<string> otherwise)
        {
            command.AnswerJson((int)Status, Check.Json(Data) ?? otherwise());
        }
    }

    /// <summary>Says of commands of Serve nodes that they were not done.</summary>
    [Combinator]
    [WorkflowElementCategory(ElementCategory.Sink)]
    [DefaultProperty("Sentence")]
    [Description("Says of commands of Serve nodes that they were not done, so that their master gets an error, and " +
        "passes them on.")]
    public class Fail
    {
        /// <summary>Gets or sets why they were not done.</summary>
        [Category("Command")]
        [DefaultValue("")]
        [Description("For people: why it was not done, and what to do.")]
        public string Sentence { get; set; }

        /// <summary>Initializes a new instance of the <see cref="Fail"/> class.</summary>
        public Fail()
        {
            Sentence = "";
        }

        /// <summary>Lets each command fail.</summary>
        /// <param name="source">Commands of Serve nodes; the first answer to each counts.</param>
        /// <returns>The same commands.</returns>
        public IObservable<BridgeCommand> Process(IObservable<BridgeCommand> source)
        {
            return Reply.To(source, command => command, command => command.Fail(Sentence));
        }
    }

    /// <summary>What <see cref="Answer"/> and <see cref="Fail"/> have in common.</summary>
    internal static class Reply
    {
        // An error that comes here, from whatever node before, ends the workflow: its commands in hand have failed.
        internal static IObservable<T> To<T>(
            IObservable<T> source, Func<T, BridgeCommand> commandOf, Action<T> reply)
        {
            return source.Do(element =>
            {
                BridgeCommand command = commandOf(element);
                if (command.IsAnswered)
                    return;
                Bridge bridge = Bridge.Of(command.Client);
                if (bridge != null)
                    bridge.Failed = false;
                reply(element);
            }).Do(_ => { }, Bridge.FailCommands);
        }
    }
}
