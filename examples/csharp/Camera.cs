// Camera.cs: a simulated camera that masters, such as iblrig on another PC, command: your program as a service.
//
//     Camera SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]
//
// EXPINIT warms it up, EXPSTART begins a file, EXPEND ends it and says how many frames are in it, EXPINTERRUPT stops it
// at once, also while it warms up. With DIES_AFTER_S it dies in the middle of a recording, and says so. Ctrl-C ends it.
// README.md tells how to build and run it.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using IblBridge;

sealed class Camera
{
    const int FrameMs = 10;

    readonly BridgeClient rig;
    readonly int warmUpMs, diesAfterMs;
    bool isWarm;
    CancellationTokenSource stop; // of the recording
    Task<int> recording; // its frames; null: it does not record

    Camera(BridgeClient rig, int warmUpMs, int diesAfterMs)
    {
        this.rig = rig;
        this.warmUpMs = warmUpMs;
        this.diesAfterMs = diesAfterMs;
    }

    static int Main(string[] arguments)
    {
        if (arguments.Length < 1 || arguments.Length > 4)
        {
            Console.Error.WriteLine("usage: Camera SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]");
            return 2;
        }
        try
        {
            Console.OutputEncoding = new UTF8Encoding(false);
        }
        catch (IOException)
        {
            // Windows has no console for this program: it was started by another, or as a service.
        }
        using (var end = new CancellationTokenSource())
        {
            Console.CancelKeyPress += (sender, key) =>
            {
                key.Cancel = true; // in order: the loop in Run comes to its end
                end.Cancel();
            };
            try
            {
                BridgeClient.Use(arguments[0], "camera", rig =>
                {
                    var camera = new Camera(rig, Ms(arguments, 2, "0.1"), Ms(arguments, 3, "0"));
                    camera.Run(arguments[0], arguments.Length > 1 ? arguments[1] : null, end.Token);
                });
                return 0;
            }
            catch (Exception error) // no segment, no such listener, or no library: it says what to do
            {
                Console.Error.WriteLine(error.Message);
                return 1;
            }
        }
    }

    static int Ms(string[] arguments, int index, string usual)
    {
        string seconds = arguments.Length > index ? arguments[index] : usual;
        return (int)(1000 * double.Parse(seconds, CultureInfo.InvariantCulture));
    }

    void Run(string segment, string service, CancellationToken end)
    {
        BridgeCommands commands = rig.Serve(service, token: end);
        Console.WriteLine("serving {0} at {1}", service ?? "the listener", segment);
        foreach (BridgeCommand command in commands)
        {
            Console.WriteLine(command);
            bool inTime = command.Attempt(Obey);
            Console.WriteLine("{0}: {1}", command.Message, !inTime ? "too late, its master was told that it failed" :
                command.Error == null ? "done" : "failed, " + command.Error.Message);
        }
        Stop();
    }

    // What masters may ask of it: what it returns is the answer, and what it throws they are told.
    object Obey(BridgeCommand command)
    {
        switch (command.Message)
        {
            case Message.EXPINIT:
                if (command.Interrupted.WaitHandle.WaitOne(warmUpMs)) // an EXPINTERRUPT ends it
                    throw new OperationCanceledException();
                isWarm = true;
                return null;
            case Message.EXPSTART:
                return Start(command);
            default: // EXPEND, EXPINTERRUPT, EXPCLEANUP
                return new Dictionary<string, object> { { "frames", Stop() } };
        }
    }

    object Start(BridgeCommand command)
    {
        if (!isWarm)
            throw new InvalidOperationException("The camera is cold. Send EXPINIT first.");
        Stop();
        stop = CancellationTokenSource.CreateLinkedTokenSource(command.Interrupted); // which comes before its turn
        CancellationToken stopped = stop.Token;
        recording = Task.Factory.StartNew(() => Record(stopped), TaskCreationOptions.LongRunning);
        return new Dictionary<string, object> { { "file", command.ExpRef + ".avi" } };
    }

    int Stop()
    {
        if (recording == null)
            return 0;
        stop.Cancel();
        int frames = recording.Result;
        recording = null;
        return frames;
    }

    // In a thread of its own; here your camera's library gives one frame after the other.
    int Record(CancellationToken stopped)
    {
        int frames = 0;
        while (!stopped.WaitHandle.WaitOne(FrameMs))
        {
            frames++;
            if (diesAfterMs > 0 && frames * FrameMs >= diesAfterMs)
            {
                var what = new Dictionary<string, object> { { "why", "The camera died." }, { "frames", frames } };
                rig.Tell(Message.EXPINTERRUPT, what);
                break;
            }
        }
        return frames;
    }
}
