// Checking.cs: what the files of checks in C# share. A program's first argument names a method of its class; exit status
// 0 if all that the method checks is so, else 1 and what was not on standard error.
using System;
using System.Reflection;
using System.Text;

abstract class Checking
{
    // Runs the method of `checks` that the first argument names; exit status 1 if it throws.
    protected static int Run(Type checks, string[] arguments)
    {
        Console.OutputEncoding = new UTF8Encoding(false);
        try
        {
            checks.GetMethod(arguments[0], BindingFlags.NonPublic | BindingFlags.Static).Invoke(null, null);
            return 0;
        }
        catch (TargetInvocationException error)
        {
            Console.Error.WriteLine(error.InnerException);
            return 1;
        }
    }

    protected static void Same(object wanted, object got, string what = "")
    {
        if (!object.Equals(wanted, got))
            throw new Exception(string.Format("{0}: {1} is wanted, {2} came", what, wanted ?? "null", got ?? "null"));
    }

    protected static T Throws<T>(Action action) where T : Exception
    {
        try
        {
            action();
        }
        catch (AggregateException error)
        {
            if (error.InnerException is T)
                return (T)error.InnerException;
            throw;
        }
        catch (T error)
        {
            return error;
        }
        throw new Exception("no " + typeof(T).Name);
    }

    // Says a word, and waits for a line of the test's.
    protected static void Say(string word)
    {
        Console.WriteLine(word);
        Console.ReadLine();
    }
}
