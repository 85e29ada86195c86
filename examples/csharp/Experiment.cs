// Experiment.cs: a whole experiment from C#. What an acquisition program does, without the acquisition.
//
//     Experiment SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]
//
// Prepares and starts all services, watches for a while whether one of them gives up, asks what they do, and ends the
// experiment. If a service fails, the others are stopped, and it says who failed and why. README.md tells how to build
// and run it.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using IblBridge;

static class Experiment
{
    const int QuestionMs = 100; // for a question that is not worth waiting for
    const int ExperimentMs = 1000; // how long the animal works
    const int LookMs = 200; // in one wait: so the program can do something else in between

    static BridgeClient client;

    static int Main(string[] arguments)
    {
        if (arguments.Length < 1 || arguments.Length > 3)
        {
            Console.Error.WriteLine("usage: Experiment SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]");
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
        try
        {
            client = new BridgeClient(arguments[0], arguments.Length > 2 ? arguments[2] : "experiment");
        }
        catch (Exception error) // no segment, or no library: it says what to do
        {
            Console.Error.WriteLine(error.Message);
            return 1;
        }
        using (client)
        {
            if (client.HasWorker)
                return Run(arguments.Length > 1 ? arguments[1] : "2026-01-01_1_subject") ? 0 : 1;
            Console.Error.WriteLine("{0} ({1})", BridgeClient.ErrorText(Status.W_NO_WORKER), Status.W_NO_WORKER);
            return 1;
        }
    }

    static bool Run(string reference)
    {
        try
        {
            client.Subscribe(Message.EXPINTERRUPT);
            Tell(Message.EXPINIT);
            Tell(Message.EXPSTART, BridgeClient.Arguments(reference));
            Watch();
            Ask(Message.EXPSTATUS);
            Tell(Message.EXPINFO);
            Tell(Message.EXPEND);
            Tell(Message.EXPCLEANUP);
            return true;
        }
        catch (BridgeException) // a camera may run, even if no answer came
        {
            try
            {
                Tell(Message.EXPINTERRUPT);
            }
            catch (BridgeException)
            {
            }
            return false;
        }
    }

    // Sends a command to all services and waits until each has done it.
    static void Tell(Message message, string arguments = null)
    {
        Report(message, Try(message, () => client.Call(message, arguments)));
    }

    // Asks something that is given up if the answer takes too long.
    static void Ask(Message message)
    {
        using (var patience = new CancellationTokenSource(QuestionMs))
        {
            try
            {
                Task<Response> question = client.CallAsync(message, token: patience.Token);
                Report(message, Try(message, () => question.GetAwaiter().GetResult()));
            }
            catch (OperationCanceledException)
            {
                Console.WriteLine("{0}: cancelled", message);
            }
        }
    }

    // Here the animal works; returns early if a service gives up.
    static void Watch()
    {
        for (var clock = Stopwatch.StartNew(); clock.ElapsedMilliseconds < ExperimentMs;)
        {
            BridgeEvent happened = Try("event", () => client.NextEvent(LookMs));
            if (happened == null)
                continue;
            Console.WriteLine("event {0} from {1}", happened.Event, happened.Service);
            return;
        }
    }

    // Does it, or says why not; what the services did that could is in the error's response.
    static T Try<T>(object name, Func<T> action)
    {
        try
        {
            return action();
        }
        catch (BridgeException error)
        {
            Console.WriteLine("{0}: failed ({1}): {2}", name, error.Code, error.Sentence);
            if (error.Response != null)
                Services(error.Response);
            throw;
        }
    }

    static void Report(Message message, Response response)
    {
        if (response.Code > 0) // such as Status.W_STATUS: a service was told EXPEND, and says that it still runs
            Console.WriteLine("{0}: warning ({1}): {2}", message, response.Code, response.Error);
        else
            Console.WriteLine("{0}: done", message);
        Services(response);
    }

    static void Services(Response response)
    {
        foreach (ServiceOutcome service in response.Services)
        {
            string words = service.State;
            if (!service.Ok)
                words += ", " + service.Error;
            else if (response.Message == "EXPINFO" && service.Status >= 0)
                words = "status " + service.Status + ", " + Reference(service);
            Console.WriteLine("  {0}: {1}", service.Name, words);
        }
    }

    // Of which experiment; a service answers EXPINFO with what it likes to tell of itself.
    static string Reference(ServiceOutcome service)
    {
        object info, reference;
        service.Data.TryGetValue("info", out info);
        var told = info as IDictionary<string, object>;
        return told != null && told.TryGetValue("exp_ref", out reference) && reference != null
            ? reference.ToString()
            : "no experiment";
    }
}
