// together.cs: one of several languages on one segment. It gets its own answers and the events it asked for.
//
//     together SEGMENT CLIENT COUNT
//
// Prints `ready`, then after COUNT calls and one EXPINTERRUPT `CLIENT RIGHT_ANSWERS SERVICE_OF_THE_EVENT`.
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Text;
using IblBridge;

static class Together
{
    static int Main(string[] arguments)
    {
        Console.OutputEncoding = new UTF8Encoding(false);
        try
        {
            Run(arguments[0], arguments[1], int.Parse(arguments[2]));
            return 0;
        }
        catch (Exception error)
        {
            Console.Error.WriteLine(error.Message);
            return 1;
        }
    }

    static void Run(string segment, string name, int count)
    {
        using (var client = new BridgeClient(segment, name, 5000))
        {
            client.Subscribe(Message.EXPINTERRUPT);
            Console.WriteLine("ready");
            int right = Enumerable.Range(0, count).Count(i => AnsweredAlone(client, name + "-" + i));
            Console.WriteLine("{0} {1} {2}", name, right, Interrupted(client).Service);
        }
    }

    static bool AnsweredAlone(BridgeClient client, string reference)
    {
        Response response = client.Call(Message.EXPSTART, BridgeClient.Arguments(reference), null, 20000);
        return response.Services.Count == 2 &&
            response.Services.All(service => reference.Equals(((List<object>)service.Data["value"])[0]));
    }

    static BridgeEvent Interrupted(BridgeClient client)
    {
        for (var clock = Stopwatch.StartNew(); clock.Elapsed.TotalSeconds < 10;)
        {
            BridgeEvent happened = client.NextEvent(200);
            if (happened != null && happened.Message == Message.EXPINTERRUPT)
                return happened;
        }
        throw new TimeoutException("There was no EXPINTERRUPT within 10 s.");
    }
}
