// Ends.cs: what test_ends.py asks of every client, with the C# one.
using System;
using System.Runtime.CompilerServices;
using System.Threading;
using System.Threading.Tasks;
using IblBridge;

static class Ends
{
    static void Main()
    {
        new BridgeClient("rig0", "closed", 5000).Dispose();
        BridgeClient.Use("rig0", "closed", rig => rig.Call(Message.PING));
        BridgeClient.UseAsync("rig0", "closed", async rig => await rig.CallAsync(Message.PING)).Wait();
        new BridgeClient("rig0", "abandoned", 5000).Abandon();
        try
        {
            BridgeClient.Use("rig0", "thrown", rig => { throw new TimeoutException(); });
        }
        catch (TimeoutException)
        {
        }
        try
        {
            BridgeClient.UseAsync("rig0", "awaited", async rig =>
            {
                await Task.Yield();
                throw new TimeoutException();
            }).Wait();
        }
        catch (AggregateException)
        {
        }
        var forgetting = new Thread(Forget); // what is on the stack of a thread that has ended holds nothing
        forgetting.Start();
        forgetting.Join();
        GC.Collect();
        GC.WaitForPendingFinalizers();
        new BridgeClient("rig0", "left", 5000);
        Environment.Exit(0);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static void Forget()
    {
        new BridgeClient("rig0", "forgotten", 5000);
    }
}
