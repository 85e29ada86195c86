// Serving.cs: the cases of Operators.cs in which masters command the workflow.
using Bonsai;
using Bonsai.IblBridge;
using IblBridge;
using System;
using System.Collections.Generic;
using System.Reactive.Linq;
using System.Threading;

static partial class Operators
{
    static IObservable<BridgeCommand> Asked(Message messages, string service = "")
    {
        return new Serve { Messages = messages, Service = service }.Generate();
    }

    static Watched Obey(string name, Message messages)
    {
        return Watched.Run(name, new Answer().Process(Asked(messages)).Select(command => command.Message));
    }

    static void serve(string[] _)
    {
        var file = new Answer { Data = "{\"file\": \"a.avi\"}" };
        var frames = new Answer { Status = AnswerStatus.CONNECTED };
        var wrong = new Fail { Sentence = "The lens is gone." };
        using (Rig())
        using (Watched.Run("start", file.Process(Asked(Message.EXPSTART)).Select(one => one.Message + one.ExpRef)))
        using (Watched.Run("end", frames.Process(Asked(Message.EXPEND).Select(one => Tuple.Create(one, 7)))
            .Select(pair => pair.Item1.IsAnswered + " " + pair.Item2)))
        using (Watched.Run("init", wrong.Process(Asked(Message.EXPINIT)).Select(one => one.Message)))
            Pause("serving");
    }

    // What data the properties and elements make.
    static void serve_data(string[] texts)
    {
        int next = 0;
        var answer = new Answer();
        using (Rig())
        using (Watched.Run("data", answer.Process(Asked(Message.EXPINIT).Do(_ => answer.Data = texts[next++]))
            .Select(one => one.Message)))
            Pause("serving");
    }

    // A node in between fails; with an argument the workflow begins anew.
    static void serve_error(string[] texts)
    {
        IObservable<BridgeCommand> commands = new Answer().Process(Asked(BridgeClient.Served).Select(command =>
        {
            if (command.Message == Message.EXPSTART)
                throw new InvalidOperationException("the lens is gone");
            return command;
        }));
        if (texts.Length > 0)
            commands = commands.Retry();
        using (Rig())
        using (Watched run = Watched.Run("serve", commands.Select(command => command.Message)))
            if (texts.Length > 0)
                Pause("serving");
            else
                run.Wait();
    }

    static void serve_nothing(string[] _)
    {
        using (Rig())
        {
            Watched.Run("other", Asked(Message.EXPINIT, "ephys")).Wait();
            using (Obey("one", Message.EXPINIT))
            {
                Watched.Run("two", Asked(Message.EXPSTART, "cameras")).Wait();
                Pause("serving");
            }
        }
    }

    static void serve_no_json(string[] _)
    {
        using (Rig())
            Watched.Run("data", new Answer { Data = "{" }.Process(Asked(Message.EXPSTART))).Wait();
    }

    // A node that takes one command and leaves.
    static void serve_once(string[] _)
    {
        using (Rig())
        using (Obey("end", Message.EXPEND))
        using (Watched.Run("start", new Answer().Process(Asked(Message.EXPSTART).Take(1)).Select(one => one.Message)))
            Pause("serving");
    }

    // A node is busy with EXPINIT until another one hears an EXPINTERRUPT.
    static void serve_interrupt(string[] _)
    {
        using (var interrupted = new ManualResetEventSlim())
        using (Rig())
        using (Watched.Run("init", new Answer().Process(Asked(Message.EXPINIT | Message.EXPEND).Do(command =>
        {
            Say("busy");
            Say("interrupted: {0}", command.Message == Message.EXPEND || interrupted.Wait(PatienceMs));
        })).Select(one => one.Message)))
        using (Watched.Run("interrupt", new Answer().Process(Asked(Message.EXPINTERRUPT).Do(command =>
            interrupted.Set())).Select(one => one.Message)))
            Pause("serving");
    }

    // While a node is busy with EXPINIT, its master and that of another command give up.
    static void serve_late(string[] _)
    {
        using (Rig())
        using (var end = new ManualResetEventSlim())
        using (Watched.Run("late", new Answer().Process(Asked(BridgeClient.Served).Do(command =>
        {
            if (command.Message == Message.EXPINIT)
                Pause("busy");
        })).Do(command =>
        {
            if (command.Message == Message.EXPCLEANUP)
                end.Set();
        }).Select(one => one.Message + " " + one.IsLate)))
        {
            Say("serving");
            end.Wait(PatienceMs);
        }
    }

    static void tell(string[] _)
    {
        using (Rig())
        using (Obey("serve", BridgeClient.Served))
        {
            Pause("serving");
            var died = new Tell { Data = "{\"why\": \"it was unplugged\"}" };
            Watched.Run("died", died.Process(Observable.Return(5))).Wait();
            var status = new Tell { Message = Message.EXPSTATUS };
            Watched.Run("status", status.Process(Observable.Return("20"))).Wait();
            Pause("told");
        }
        using (Rig())
            Watched.Run("nobody", new Tell().Process(Observable.Return(5))).Wait();
    }

    // It stops with a command in hand.
    static void serve_stop(string[] _)
    {
        using (Rig())
        using (Watched.Run("taken", Asked(BridgeClient.Served).Select(one => one.Message)))
            Pause("serving");
        Pause("stopped");
    }

    static void serve_restart(string[] texts)
    {
        for (int i = 0; i < int.Parse(texts[0]); i++)
        {
            var nodes = new List<IDisposable> { Rig(), Obey("serve", Message.EXPINIT), Obey("serve", Message.EXPEND) };
            if (i % 2 == 0)
                nodes.Reverse();
            foreach (IDisposable node in nodes)
                node.Dispose();
        }
        using (Rig())
        using (Obey("serve", Message.EXPINIT))
            Pause("restarted");
    }
}
