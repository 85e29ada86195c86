// Operators.cs: what a workflow does with the operators, one case per run, with a line for whatever happens.
//
//     Operators CASE [ARGUMENT ...]
using Bonsai;
using Bonsai.IblBridge;
using IblBridge;
using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Reactive.Concurrency;
using System.Reactive.Linq;
using System.Reactive.Subjects;
using System.Reflection;
using System.Threading;
using System.Xml.Serialization;
using ServiceStatus = Bonsai.IblBridge.ServiceStatus;

static partial class Operators
{
    const int PatienceMs = 20000;

    static int Main(string[] arguments)
    {
        MethodInfo method = typeof(Operators).GetMethod(arguments[0], BindingFlags.Static | BindingFlags.NonPublic);
        try
        {
            method.Invoke(null, new object[] { arguments.Skip(1).ToArray() });
            return 0;
        }
        catch (TargetInvocationException error)
        {
            Console.Error.WriteLine(error.InnerException);
            return 1;
        }
    }

    static void Say(string format, params object[] values)
    {
        lock (Console.Out)
        {
            Console.WriteLine(format, values);
            Console.Out.Flush();
        }
    }

    // A go-ahead of the test, which has looked at something or changed it.
    static void Pause(string reason)
    {
        Say(reason);
        Console.ReadLine();
    }

    static string Text(object element)
    {
        var response = element as Response;
        if (response != null)
            return string.Format("{0} {1} {2}", response.Message, response.Code,
                string.Join(",", response.Services.Select(service =>
                    service.Name + "=" + service.State + (service.Ok ? "" : " " + service.Reason))));
        var found = element as BridgeEvent;
        if (found != null)
            return found.Event + " from " + found.Service;
        var state = element as WorkerState;
        if (state != null)
            return string.Format("alive {0}, {1} of {2} up", state.Alive, state.ServicesUp, state.Services);
        return element.ToString();
    }

    // A subscription that says what comes, and can be waited for.
    sealed class Watched : IDisposable
    {
        readonly IDisposable subscription;
        readonly ManualResetEventSlim end = new ManualResetEventSlim();

        Watched(string name, Func<Watched, IDisposable> subscribe)
        {
            subscription = subscribe(this);
        }

        internal static Watched Run<T>(string name, IObservable<T> sequence)
        {
            return new Watched(name, self => sequence.Subscribe(
                element => Say("{0}: {1}", name, Text(element)),
                error => self.End(string.Format("{0}: {1} {2}", name, error.GetType().Name, error.Message)),
                () => self.End(name + ": completed")));
        }

        void End(string how)
        {
            Say(how.Replace("\n", " "));
            end.Set();
        }

        internal bool HasEnded { get { return end.IsSet; } }

        internal void Wait()
        {
            if (!end.Wait(PatienceMs))
                throw new TimeoutException("it goes on and on");
        }

        public void Dispose()
        {
            subscription.Dispose();
        }
    }

    static IDisposable Rig(Message onStop = 0)
    {
        return new CreateBridge { OnStop = onStop }.Generate().Subscribe(_ => { }, Wrong);
    }

    static void Wrong(Exception error)
    {
        Say("wrong: {0}", error);
    }

    static Request Start()
    {
        return new Request { Message = Message.EXPSTART, Arguments = "2026-01-01_1_subject" };
    }

    // A sequence of one element that sends a command.
    static void Once(string name, Request request)
    {
        Watched.Run(name, request.Process(Observable.Return(0))).Wait();
    }

    static void stopped(string[] _)
    {
        using (Rig())
            Once("init", new Request { Message = Message.EXPINIT });
    }

    static void failed(string[] _)
    {
        using (Rig())
            Once("init", new Request { Message = Message.EXPINIT, Services = "nobody" });
    }

    static void upstream(string[] _)
    {
        using (Rig())
            Watched.Run("init", new Request { Message = Message.EXPINIT }.Process(
                Observable.Throw<int>(new TimeoutException()))).Wait();
    }

    static void recovered(string[] _)
    {
        using (Rig())
        {
            Once("wrong", new Request { Message = Message.EXPINIT, Services = "nobody" });
            Once("init", new Request { Message = Message.EXPINIT });
        }
    }

    // What the nodes of the toolbox and the property grid show.
    static void describe(string[] _)
    {
        foreach (Type type in typeof(CreateBridge).Assembly.GetExportedTypes())
        {
            if (type.IsAbstract || Attribute<CombinatorAttribute>(type) == null) // as Bonsai picks them
                continue;
            var category = Attribute<WorkflowElementCategoryAttribute>(type);
            object node = Activator.CreateInstance(type);
            Say("{0}: {1}: {2}", type.Name, category == null ? ElementCategory.Combinator : category.Category,
                Attribute<DescriptionAttribute>(type).Description);
            foreach (PropertyDescriptor property in TypeDescriptor.GetProperties(node))
                Say("{0}.{1}: {2}: {3}: {4}: {5}", type.Name, property.Name, property.Category,
                    property.PropertyType.Name, property.ShouldSerializeValue(node) ? "changed" : "default",
                    property.Description);
        }
    }

    // What Bonsai writes under a node: its name, else that of its type.
    static void names(string[] _)
    {
        foreach (object node in new object[]
        {
            new Request { Message = Message.EXPSTART }, new SendCommand { Message = Message.EXPEND },
            new BridgeEvents { Events = Message.EXPINTERRUPT | Message.SERVICE_DOWN }, new BridgeStatus(),
            new CreateBridge { Name = "left" }, new Serve(),
            new Serve { Messages = Message.EXPEND | Message.EXPINTERRUPT }, new Answer(), new Fail(), new Tell(),
        })
        {
            var named = node as INamedElement;
            Say("{0}: {1}", node.GetType().Name, named == null ? node.GetType().Name : named.Name);
        }
        foreach (XmlNamespacePrefixAttribute one in
            typeof(CreateBridge).Assembly.GetCustomAttributes(typeof(XmlNamespacePrefixAttribute), true))
            Say("{0}: {1}", one.XmlNamespace, one.Prefix);
    }

    static T Attribute<T>(Type type)
    {
        return type.GetCustomAttributes(typeof(T), true).Cast<T>().SingleOrDefault();
    }

    // Saved with a workflow and read again.
    static void save(string[] _)
    {
        var nodes = new object[]
        {
            new CreateBridge(), new Request(), new SendCommand(), new BridgeEvents(), new BridgeStatus(),
            new ServiceStatus { BridgeName = "left", Services = "a", TimeoutMs = 1 },
            new CreateBridge
            {
                Name = "left", Segment = "a", Client = "b", TimeoutMs = 1, OnStop = Message.EXPEND | Message.EXPCLEANUP,
            },
            new Request
            {
                BridgeName = "left", Message = Message.EXPSTART, Services = "a,b", Arguments = "[{}]", TimeoutMs = 1,
                OnError = ErrorMode.Emit,
            },
            new SendCommand
            {
                BridgeName = "left", Message = Message.EXPINIT, Services = "a", Arguments = "x", TimeoutMs = 1,
                Confirm = false,
            },
            new BridgeEvents { BridgeName = "left", Events = Message.EXPINTERRUPT | Message.WORKER_RESTARTED },
            new BridgeStatus { BridgeName = "left", PeriodMs = 100 },
            new Serve(), new Answer(), new Fail(), new Tell(),
            new Serve { BridgeName = "left", Service = "a", Messages = Message.EXPEND | Message.EXPINTERRUPT },
            new Answer { Status = AnswerStatus.RUNNING, Data = "{}" }, new Fail { Sentence = "a" },
            new Tell { BridgeName = "left", Message = Message.EXPSTATUS, Data = "20" },
        };
        foreach (object node in nodes)
        {
            var serializer = new XmlSerializer(node.GetType(), "clr-namespace:Bonsai.IblBridge;assembly=Extensions");
            var text = new StringWriter();
            serializer.Serialize(text, node);
            object again = serializer.Deserialize(new StringReader(text.ToString()));
            bool same = TypeDescriptor.GetProperties(node).Cast<PropertyDescriptor>()
                .All(one => Equals(one.GetValue(node), one.GetValue(again)));
            Say("{0}: {1}", node.GetType().Name, same ? "same" : text.ToString());
        }
    }

    static void offers(string[] _)
    {
        var graph = new Bonsai.Expressions.ExpressionBuilderGraph();
        CreateBridge left = new CreateBridge { Name = "left" }, right = new CreateBridge { Name = "right" };
        foreach (object node in new object[] { left, new Request(), right })
            graph.Add(new Bonsai.Expressions.CombinatorBuilder { Combinator = node });
        var context = new Context(new WorkflowBuilder(graph));
        var nodes = new object[] { new Request(), new CreateBridge(), new BridgeEvents(), new Serve(), new Tell() };
        foreach (object node in nodes)
            foreach (PropertyDescriptor property in TypeDescriptor.GetProperties(node).Cast<PropertyDescriptor>())
                if (property.Converter.GetStandardValuesSupported(context))
                    Say("{0}.{1}: {2}", node.GetType().Name, property.Name,
                        string.Join(" ", property.Converter.GetStandardValues(context).Cast<object>()));
        TypeConverter commands = TypeDescriptor.GetProperties(new CreateBridge())["OnStop"].Converter;
        foreach (string text in new[] { "", "EXPEND, EXPCLEANUP" })
        {
            object value = commands.ConvertFromInvariantString(text);
            Say("OnStop \"{0}\" is \"{1}\"", text, commands.ConvertToInvariantString(value));
        }
    }

    sealed class Context : ITypeDescriptorContext
    {
        readonly object service;

        internal Context(object service)
        {
            this.service = service;
        }

        public IContainer Container { get { return null; } }
        public object Instance { get { return null; } }
        public PropertyDescriptor PropertyDescriptor { get { return null; } }

        public object GetService(Type type)
        {
            return type.IsInstanceOfType(service) ? service : null;
        }

        public bool OnComponentChanging()
        {
            return true;
        }

        public void OnComponentChanged()
        {
        }
    }

    static void refuse(string[] _)
    {
        Try("a negative time", () => new Request { TimeoutMs = -1 });
        Try("an event as command", () => new Request { Message = Message.SERVICE_UP });
        Try("two commands at once", () => new SendCommand { Message = Message.EXPINIT | Message.EXPSTART });
        Try("an event at the stop", () => new CreateBridge { OnStop = Message.EXPEND | Message.CLIENT_LOST });
        Try("a command as event", () => new BridgeEvents { Events = Message.PING });
        Try("no event", () => new BridgeEvents { Events = 0 });
        Try("what no master asks", () => new Serve { Messages = Message.EXPINIT | Message.PING });
        Try("nothing to serve", () => new Serve { Messages = 0 });
        Try("what nobody tells", () => new Tell { Message = Message.EXPSTART });
    }

    static void Try(string what, Func<object> make)
    {
        try
        {
            make();
            Say("{0}: accepted", what);
        }
        catch (ArgumentException error)
        {
            Say("{0}: {1}", what, error.GetType().Name);
        }
    }

    // The operators of a workflow, and with "run" the workflow itself.
    static void workflow(string[] arguments)
    {
        foreach (object node in Workflow.Operators(Workflow.Load(arguments[0])))
            foreach (PropertyDescriptor property in TypeDescriptor.GetProperties(node))
                Say("{0}.{1}: {2}", node.GetType().FullName, property.Name, property.GetValue(node));
        if (!arguments.Contains("run"))
            return;
        int count = 0;
        Watched run = Watched.Run("workflow", Workflow.Build(Workflow.Load(arguments[0]))
            .Do(_ => Interlocked.Increment(ref count)).IgnoreElements());
        if (arguments.Contains("then"))
        {
            SpinWait.SpinUntil(() => count > 0, PatienceMs);
            Pause("frames");
        }
        run.Wait();
        Say("{0} frames", count);
    }

    // A whole experiment in one operator: each element is a command.
    static void session(string[] arguments)
    {
        using (Rig())
        {
            var request = new Request();
            var commands = new[] { Message.EXPINIT, Message.EXPSTART, Message.EXPSTATUS, Message.EXPEND };
            Watched.Run("session", request.Process(commands.ToObservable().Do(message =>
            {
                request.Message = message;
                request.Arguments = message == Message.EXPSTART ? arguments[0] : "";
            }))).Wait();
        }
    }

    // Which arguments come of a property and an element: EXPSTART replies with what it got.
    static void arguments(string[] texts)
    {
        using (Rig())
            for (int i = 0; i < texts.Length; i += 2)
            {
                Request request = Start();
                request.Arguments = texts[i];
                request.OnError = ErrorMode.Emit;
                Watched.Run("arguments", request.Process(Observable.Return(texts[i + 1])).Select(Value)).Wait();
            }
    }

    static string Value(Response response)
    {
        return response.Code < 0 ? response.Error : BridgeClient.Arguments(response.Services[0].Data["value"]);
    }

    // How long the source is held up, and what comes out, in which order, of ten elements of which each takes its time.
    static void slow(string[] texts)
    {
        using (Rig())
        {
            var held = new List<long>();
            var request = new Request { TimeoutMs = int.Parse(texts[0]), OnError = ErrorMode.Emit };
            var clock = Stopwatch.StartNew();
            Watched run = Watched.Run("slow", request.Process(Observable.Create<int>(observer =>
            {
                for (int i = 0; i < 10; i++)
                {
                    clock.Restart();
                    observer.OnNext(i);
                    held.Add(clock.ElapsedMilliseconds);
                }
                clock.Restart();
                observer.OnCompleted();
                return () => { };
            })));
            Say("held {0}", held.Max());
            run.Wait();
            Say("took {0}", clock.ElapsedMilliseconds);
        }
    }

    static void fail(string[] texts)
    {
        using (Rig())
        {
            Request request = Start();
            request.OnError = ErrorMode.Emit;
            Watched.Run("emit", request.Process(Observable.Range(0, 2))).Wait();
            request.OnError = ErrorMode.Throw;
            Watched.Run("throw", request.Process(Observable.Range(0, 2))).Wait();
            var command = new SendCommand { Message = Message.EXPSTART, Arguments = "2026-01-01_1_subject" };
            Watched.Run("send", command.Process(Observable.Return("trial").Concat(Observable.Never<string>()))).Wait();
            Once("wrong", new Request { Services = "nobody" });
        }
    }

    static void ask(string[] texts)
    {
        using (Rig())
        {
            Watched.Run("before", new ServiceStatus().Process(Observable.Return("no arguments"))).Wait();
            Once("start", Start());
            Watched.Run("running", new ServiceStatus().Process(Observable.Return(0))).Wait();
            Watched.Run("one", new ServiceStatus { Services = "cameras" }.Process(Observable.Range(0, 2))
                .Select(state => state.Name + " " + (int)state.Status + " " + state.ExpRef + state.Error)).Wait();
            Watched.Run("nobody", new ServiceStatus { Services = "nobody" }.Process(Observable.Return(0))).Wait();
        }
    }

    static void send(string[] _)
    {
        using (Rig())
        {
            var command = new SendCommand { Message = Message.EXPINIT };
            Watched.Run("confirmed", command.Process(Observable.Range(1, 3))).Wait();
            command.Confirm = false;
            command.Message = Message.EXPSTART;
            Watched.Run("told", command.Process(Observable.Return("2026-01-01_1_subject"))).Wait();
            Pause("told");
        }
    }

    // An interrupt leaves while the command before it is still waited for, and ends that wait.
    static void interrupt(string[] _)
    {
        using (Rig())
        {
            var request = new Request { OnError = ErrorMode.Emit };
            var source = new Subject<Message>();
            Watched run = Watched.Run("interrupt", request.Process(source.Do(message => request.Message = message)));
            source.OnNext(Message.EXPINIT);
            Thread.Sleep(300); // so that it has reached the services
            source.OnNext(Message.EXPINTERRUPT);
            source.OnCompleted();
            run.Wait();
        }
    }

    static Watched Ask(int times)
    {
        Watched run = Watched.Run("ask", new Request { Message = Message.PING }.Process(Observable.Range(0, times)));
        run.Wait();
        return run;
    }

    static void events(string[] _)
    {
        const Message both = Message.EXPINTERRUPT | Message.SERVICE_DOWN;
        using (Rig())
        using (Watched.Run("first", new BridgeEvents().Generate()))
        using (Ask(10)) // by then the first one is listening
        using (Watched.Run("second", new BridgeEvents { Events = both }.Generate()))
        using (Watched third = Watched.Run("third", new BridgeEvents().Generate().Take(1)))
        {
            Once("start", Start());
            third.Wait();
            Pause("heard");
            Once("status", new Request { OnError = ErrorMode.Emit });
            Pause("asked");
        }
    }

    // Who comes back hears nothing of what happened while nobody listened.
    static void leave(string[] _)
    {
        using (Rig())
        {
            Watched.Run("before", new BridgeEvents().Generate()).Dispose();
            Thread.Sleep(500); // for the thread that reads events to see it
            Once("start", Start());
            Pause("started");
            using (Watched.Run("again", new BridgeEvents().Generate()))
            {
                Ask(20);
                Pause("back");
                Once("start", Start());
                Pause("started again");
            }
        }
    }

    static void status(string[] _)
    {
        using (Rig())
        using (Watched.Run("status", new BridgeStatus { PeriodMs = 20 }.Generate()))
            Pause("looking");
    }

    // The worker is killed meanwhile, and there is a new one.
    static void survive(string[] _)
    {
        using (Rig())
        using (Watched.Run("events", new BridgeEvents { Events = Message.WORKER_RESTARTED }.Generate()))
        using (Watched.Run("status", new BridgeStatus { PeriodMs = 20 }.Generate()))
        {
            Ask(10);
            Pause("open");
            Once("request", new Request());
            Pause("asked");
        }
    }

    // Two operators on one bridge at the same time, each with its own answers.
    static void together(string[] texts)
    {
        int count = int.Parse(texts[0]);
        using (Rig())
        {
            List<Watched> runs = new[] { "2026-01-01_1_left", "2026-01-01_1_right" }.Select(name => Watched.Run(name,
                new Request { Message = Message.EXPSTART }.Process(Observable.Range(0, count).Select(i => name + i))
                    .Select((response, i) => Value(response).Contains(name + i + "\"")).All(right => right))).ToList();
            runs.ForEach(run => run.Wait());
        }
    }

    // Operators that are subscribed before the bridge is open wait for it, and lose nothing.
    static void late(string[] _)
    {
        var request = new Request();
        var commands = new[] { Message.EXPINIT, Message.EXPSTATUS, Message.EXPEND };
        IObservable<Message> source = commands.ToObservable().Do(message => request.Message = message);
        Watched run = Watched.Run("late", request.Process(source));
        using (Watched.Run("events", new BridgeEvents().Generate()))
        using (Watched.Run("status", new BridgeStatus().Generate().Take(1)))
        {
            Pause("no bridge yet");
            using (Rig())
                run.Wait();
        }
    }

    static void SetOpenMs(int milliseconds)
    {
        Type bridge = typeof(CreateBridge).Assembly.GetType("Bonsai.IblBridge.Bridge");
        bridge.GetField("OpenMs", BindingFlags.Static | BindingFlags.NonPublic).SetValue(null, milliseconds);
    }

    static void missing(string[] _)
    {
        SetOpenMs(200);
        Watched.Run("request", new Request { OnError = ErrorMode.Emit }.Process(Observable.Range(0, 3))).Wait();
        Watched.Run("send", new SendCommand().Process(Observable.Range(0, 1))).Wait();
        Watched.Run("events", new BridgeEvents().Generate()).Wait();
        Watched.Run("status", new BridgeStatus().Generate()).Wait();
        Once("nameless", new Request { BridgeName = "" });
        Watched.Run("segment", new CreateBridge { Segment = "nowhere", TimeoutMs = 0 }.Generate()).Wait();
    }

    // A workflow that is started before the worker: whatever else is in it goes on, and who was first waits as long.
    static void early(string[] _)
    {
        SetOpenMs(200); // long past when the segment comes
        Watched request = Watched.Run("request", new Request { Message = Message.PING }.Process(Observable.Return(0)));
        using (new CreateBridge { TimeoutMs = 60000 }.Generate().Subscribe(client => { }, Wrong))
        {
            Observable.Timer(TimeSpan.Zero, TimeSpan.FromMilliseconds(100)).Take(10).Wait();
            Pause("started");
            request.Wait();
        }
        Pause("stopped");
    }

    // The same, and it is stopped while it waits.
    static void give_up(string[] _)
    {
        using (Watched.Run("request", new Request().Process(Observable.Return(0))))
        using (Watched.Run("events", new BridgeEvents().Generate()))
        using (new CreateBridge { TimeoutMs = 60000 }.Generate().Subscribe(client => { }, Wrong))
            Pause("waiting");
    }

    static void shared(string[] _)
    {
        var opened = new List<BridgeClient>();
        IDisposable first = new CreateBridge().Generate().Subscribe(opened.Add);
        IDisposable second = new CreateBridge().Generate().Subscribe(opened.Add);
        Say("one client: {0}", opened.Count == 2 && opened[0] == opened[1]);
        Watched.Run("other segment", new CreateBridge { Segment = "rig1" }.Generate()).Wait();
        Watched.Run("other name", new CreateBridge { Name = "second", Client = "bonsai" }.Generate()).Wait();
        using (new CreateBridge { Name = "second", Client = "second" }.Generate().Subscribe(client => { }, Wrong))
            Ask(1);
        first.Dispose();
        Ask(1);
        Pause("one left");
        second.Dispose();
        Pause("none left");
        using (Rig())
            Ask(1);
    }

    // Two bridges without a name for their client; another process may have some, too.
    static void unnamed(string[] _)
    {
        using (Rig())
        using (new CreateBridge { Name = "second" }.Generate().Subscribe(client => { }, Wrong))
        {
            Once("second", new Request { BridgeName = "second", Message = Message.PING });
            Pause("open");
        }
        Pause("closed");
    }

    // What a user does who presses Start and Stop all day, with commands under way each time.
    static void restart(string[] texts)
    {
        for (int i = 0; i < int.Parse(texts[0]); i++)
        {
            var answers = 0;
            var nodes = new List<IDisposable> { Rig() };
            nodes.Add(new BridgeEvents().Generate().Subscribe(_ => { }, Wrong));
            nodes.Add(new BridgeStatus().Generate().Subscribe(_ => Interlocked.Increment(ref answers), Wrong));
            nodes.Add(new Request { Message = Message.PING }.Process(Observable.Return(0))
                .Subscribe(_ => Interlocked.Increment(ref answers), Wrong));
            if (!SpinWait.SpinUntil(() => answers == 2, PatienceMs))
                Say("no answer in round {0}", i);
            IObservable<int> three = Observable.Range(0, 3);
            nodes.Add(new Request { Message = Message.EXPINFO }.Process(three).Subscribe(_ => { }, Wrong));
            nodes.Add(new SendCommand { Message = Message.EXPINFO }.Process(three).Subscribe(_ => { }, Wrong));
            foreach (IDisposable node in i % 2 == 0 ? nodes : Enumerable.Reverse(nodes))
                node.Dispose();
        }
        Pause("restarted");
    }

    // Stops while a command waits for the worker, which is asleep.
    static void cancel(string[] _)
    {
        IDisposable bridge = Rig();
        Pause("open");
        var commands = new List<IDisposable>
        {
            Start().Process(Observable.Range(0, 3)).Subscribe(response => Say("answered"), Wrong),
            new SendCommand { Message = Message.EXPINIT }.Process(Observable.Return(0)).Subscribe(e => { }, Wrong),
        };
        foreach (IDisposable command in commands)
            command.Dispose();
        bridge.Dispose();
        Pause("stopped");
    }

    // A source that does not wait while the worker is asleep.
    static void flood(string[] texts)
    {
        int count = int.Parse(texts[2]), answers = 0, passed = 0;
        var mode = (FullMode)Enum.Parse(typeof(FullMode), texts[1]);
        using (Rig())
        {
            Ask(1);
            Pause("open");
            IObservable<int> source = Observable.Range(0, count, Scheduler.Default)
                .Do(_ => Interlocked.Increment(ref passed));
            CommandNode node = texts[0] == "request" ? (CommandNode)new Request()
                : new SendCommand { Confirm = !texts[3].StartsWith("notify") };
            node.Message = Message.PING;
            node.WhenFull = mode;
            if (texts[3] == "notify soon")
                node.TimeoutMs = 500;
            var request = node as Request;
            Watched run = Watched.Run("flood", (request != null ? request.Process(source).Select(_ => 0)
                : ((SendCommand)node).Process(source)).Do(_ => answers++).IgnoreElements());
            SpinWait.SpinUntil(() => passed == count || run.HasEnded || mode == FullMode.Wait && passed > 1000,
                PatienceMs);
            Pause("flooded");
            if (texts[3] == "stop")
                run.Dispose();
            else
                run.Wait();
            Say("{0} came, {1} dropped", answers, node.Dropped);
        }
    }

    // Main returns as soon as all is disposed of, while services still work at the commands.
    static void leave_at_once(string[] _)
    {
        IDisposable bridge = Rig();
        Ask(1);
        IObservable<int> many = Observable.Range(0, 20);
        var commands = new List<IDisposable>
        {
            new BridgeEvents().Generate().Subscribe(found => { }, Wrong),
            new BridgeStatus().Generate().Subscribe(state => { }, Wrong),
            new ServiceStatus().Process(many).Subscribe(state => { }, Wrong),
            new SendCommand { Message = Message.EXPINFO }.Process(many).Subscribe(element => { }, Wrong),
        };
        for (int i = 0; i < 8; i++)
            commands.Add(new Request { Message = Message.EXPINFO }.Process(many).Subscribe(response => { }, Wrong));
        Pause("pending");
        foreach (IDisposable command in commands)
            command.Dispose();
        bridge.Dispose();
    }

    static void timeout(string[] _)
    {
        using (Rig())
        {
            Pause("open");
            var request = new Request { TimeoutMs = 200, OnError = ErrorMode.Emit };
            IObservable<string> sentences = request.Process(Observable.Range(0, 2))
                .Select(one => one.Code + " " + one.Error);
            Watched.Run("asleep", sentences).Wait();
            Pause("timed out");
            request.TimeoutMs = 12000;
            Watched.Run("dead", sentences).Wait();
        }
    }

    static void stop(string[] _)
    {
        using (Rig(Message.EXPCLEANUP | Message.EXPEND))
            Once("start", Start());
        Pause("stopped");
    }
}
