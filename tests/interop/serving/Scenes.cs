// Scenes.cs: what test_serving.py asks of every kit that serves, with that of C#.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Reflection;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using IblBridge;

static class Scenes
{
    static int Main(string[] arguments)
    {
        Console.OutputEncoding = new UTF8Encoding(false);
        var rig = new BridgeClient("rig0", "program", 60000);
        typeof(Scenes).GetMethod(arguments[0], BindingFlags.NonPublic | BindingFlags.Static)
            .Invoke(null, new object[] { rig });
        return 0;
    }

    static void Say(object value)
    {
        Console.WriteLine(Json.Write(value));
    }

    static Dictionary<string, object> Map(string key, object value)
    {
        return new Dictionary<string, object> { { key, value } };
    }

    static bool Refused(Action action)
    {
        try
        {
            action();
            return false;
        }
        catch (Exception error)
        {
            if (error is BridgeException || error is ArgumentException || error is ObjectDisposedException)
                return true;
            throw;
        }
    }

    static void show(BridgeClient rig)
    {
        double before = BridgeClient.ClockNs();
        foreach (BridgeCommand command in rig.Serve("cameras"))
        {
            bool now = before < command.Time && command.Time <= BridgeClient.ClockNs();
            DateTimeOffset wall = DateTimeOffset.Parse(command.Wall);
            Say(new Dictionary<string, object>
            {
                { "service", command.Service }, { "master", command.Master }, { "message", command.Message.ToString() },
                { "args", command.Args }, { "timeout_ms", command.TimeoutMs },
                { "stamps", now && Math.Abs((wall - DateTimeOffset.Now).TotalSeconds) < 60 && command.Number > 0 },
            });
            command.Answer(ServiceStatus.CONNECTED, Map("file", "é.avi"));
        }
    }

    static void leave(BridgeClient rig)
    {
        var taken = new List<string>();
        foreach (BridgeCommand command in rig.Serve())
        {
            taken.Add(command.Message.ToString());
            if (taken.Count < 2)
                continue;
            command.Answer();
            Say(taken);
        }
    }

    static void attempt(BridgeClient rig)
    {
        foreach (BridgeCommand command in rig.Serve())
        {
            Task<bool> attempt = command.AttemptAsync(async asked =>
            {
                await Task.Delay(1);
                if (asked.Message == Message.EXPSTART)
                    throw new InvalidOperationException("the lens is gone 🐭");
                return 5;
            });
            int code = attempt.Result ? 0 : Status.E_LATE;
            Say(new object[] { command.Error == null ? "" : command.Error.Message, code });
        }
    }

    static void @throw(BridgeClient rig)
    {
        try
        {
            foreach (BridgeCommand command in rig.Serve("cameras"))
                throw new InvalidOperationException("the lens is gone");
        }
        catch (InvalidOperationException error)
        {
            Say(error.Message);
        }
        Thread.Sleep(60000);
    }

    static void late(BridgeClient rig)
    {
        BridgeCommands commands = rig.Serve();
        Say("serving");
        foreach (BridgeCommand command in commands)
        {
            if (command.Message == Message.EXPSTART)
                Thread.Sleep(500);
            Say(command.Answer() ? 0 : Status.E_LATE);
        }
    }

    static void busy(BridgeClient rig)
    {
        foreach (BridgeCommand command in rig.Serve("cameras"))
        {
            Say(command.Message.ToString());
            if (command.Message == Message.EXPSTART)
            {
                command.Interrupted.WaitHandle.WaitOne();
                Say("interrupted");
            }
            command.Answer();
        }
    }

    static void wrong(BridgeClient rig)
    {
        foreach (BridgeCommand command in rig.Serve("cameras", Message.EXPSTART | Message.EXPEND))
        {
            var wrong = new Action[]
            {
                () => command.Answer(data: double.NaN), () => command.Answer(5), () => command.Answer(data: new object()),
                () => command.Answer(data: new string('x', 70000)), () => command.Answer(data: "half \ud83d"),
                () => rig.Tell(Message.EXPSTART), () => rig.Tell(Message.EXPSTATUS), () => rig.Tell((Message)5),
                () => rig.Tell(Message.EXPINFO, new object()), () => rig.Serve("cameras", Message.PING),
                () => rig.Serve("ephys"), () => rig.Serve("a\0b"),
            };
            List<bool> refused = wrong.Select(Refused).ToList();
            command.Answer();
            refused.Add(Refused(() => command.Answer()));
            refused.Add(Refused(() => command.Fail("")));
            Say(refused.Count);
            Say(refused);
        }
    }

    static void stop(BridgeClient rig)
    {
        var end = new CancellationTokenSource();
        foreach (BridgeCommand command in rig.Serve(token: end.Token))
        {
            command.Answer();
            end.Cancel();
        }
        Say("stopped");
        Thread.Sleep(60000);
    }
}
