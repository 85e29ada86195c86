// Listeners.cs: who listens to the events of a bridge. What a service says by itself comes once per client, so one
// thread reads it for all of them, as long as there are some.
using IblBridge;
using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace Bonsai.IblBridge
{
    /// <summary>Hands the events of a bridge to those who listen to it.</summary>
    internal sealed class Listeners
    {
        const int LookMs = 200; // in one wait for an event

        readonly Bridge bridge;
        readonly List<Listener> listeners = new List<Listener>(); // and its lock
        bool pumping;

        internal Listeners(Bridge bridge)
        {
            this.bridge = bridge;
        }

        /// <summary>Hands the events of a kind to an observer until the action returned is called.</summary>
        internal Action Add(Message events, IObserver<BridgeEvent> observer)
        {
            var listener = new Listener(events, observer);
            lock (listeners)
            {
                listeners.Add(listener);
                if (!pumping)
                    Task.Factory.StartNew(Pump, TaskCreationOptions.LongRunning);
                else if (bridge.IsOpen)
                    Subscribe(bridge.Client().Result);
                pumping = true;
            }
            return () =>
            {
                lock (listeners)
                    listeners.Remove(listener);
            };
        }

        void Pump()
        {
            try
            {
                BridgeClient client = bridge.Client().GetAwaiter().GetResult();
                lock (listeners)
                    Subscribe(client);
                while (Wanted(client))
                {
                    BridgeEvent found = Next(client);
                    if (found != null)
                        foreach (Listener listener in All().Where(one => (one.Events & found.Message) != 0))
                            listener.Observer.OnNext(found);
                }
            }
            catch (Exception error) // whatever it is ends the sequences of those who listen
            {
                Listener[] all;
                lock (listeners)
                {
                    pumping = false;
                    all = All();
                    listeners.Clear();
                }
                foreach (Listener listener in all)
                    listener.Observer.OnError(error);
            }
        }

        bool Wanted(BridgeClient client)
        {
            lock (listeners)
            {
                pumping = listeners.Count > 0;
                if (!pumping)
                    Subscribe(client); // to nothing, so that nothing old is there for who comes next
                return pumping;
            }
        }

        static BridgeEvent Next(BridgeClient client)
        {
            try
            {
                return client.NextEvent(LookMs);
            }
            catch (BridgeException error)
            {
                if (error.Code != Status.E_NO_WORKER) // the next worker goes on with the same subscription
                    throw;
            }
            Thread.Sleep(LookMs);
            return null;
        }

        // With the lock on the listeners.
        void Subscribe(BridgeClient client)
        {
            client.Subscribe(listeners.Aggregate((Message)0, (events, listener) => events | listener.Events));
        }

        Listener[] All()
        {
            lock (listeners)
                return listeners.ToArray();
        }

        sealed class Listener
        {
            internal readonly Message Events;
            internal readonly IObserver<BridgeEvent> Observer;

            internal Listener(Message events, IObserver<BridgeEvent> observer)
            {
                Events = events;
                Observer = observer;
            }
        }
    }
}
