// Workflow.cs: reads a .bonsai file and runs it, as Bonsai does with what the workflows of the kit use: combinators,
// groups, included workflows with an input, externalized properties, and an output whose end is that of the workflow.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Reactive;
using System.Reactive.Linq;
using System.Reflection;
using System.Text.RegularExpressions;
using System.Xml;
using System.Xml.Serialization;

static class Workflow
{
    const string Namespace = "https://bonsai-rx.org/2018/workflow";

    static readonly XmlNamespaceManager names = new XmlNamespaceManager(new NameTable());

    static Workflow()
    {
        names.AddNamespace("b", Namespace);
        names.AddNamespace("xsi", "http://www.w3.org/2001/XMLSchema-instance");
    }

    internal static XmlElement Load(string file)
    {
        var document = new XmlDocument();
        document.Load(file);
        if (document.DocumentElement.GetAttribute("Version") != "2.6.3")
            throw new FormatException("not of Bonsai 2.6.3");
        return (XmlElement)document.DocumentElement.SelectSingleNode("b:Workflow", names);
    }

    internal static IEnumerable<object> Operators(XmlElement workflow)
    {
        return workflow.SelectNodes(".//b:Combinator", names).Cast<XmlElement>().Select(Read);
    }

    static string Kind(XmlElement element)
    {
        return element.GetAttribute("type", names.LookupNamespace("xsi"));
    }

    // As Bonsai does it: the prefix leads to a namespace and an assembly, the properties are read by the XmlSerializer.
    static object Read(XmlElement element)
    {
        string[] kind = Kind(element).Split(':');
        string space = element.GetNamespaceOfPrefix(kind[0]);
        Match place = Regex.Match(space, "^clr-namespace:(.*);assembly=(.*)$");
        Type type = Assembly.Load(place.Groups[2].Value).GetType(place.Groups[1].Value + "." + kind[1], true);
        var overrides = new XmlAttributeOverrides();
        overrides.Add(type, new XmlAttributes { XmlType = new XmlTypeAttribute { Namespace = space } });
        var root = new XmlRootAttribute("Combinator") { Namespace = Namespace };
        var serializer = new XmlSerializer(type, overrides, null, root, null);
        serializer.UnknownElement += (sender, found) =>
        {
            throw new FormatException(type + " has no property " + found.Element.Name);
        };
        var copy = (XmlElement)element.CloneNode(true);
        copy.RemoveAttribute("type", names.LookupNamespace("xsi"));
        using (var reader = new XmlNodeReader(copy))
            return serializer.Deserialize(reader);
    }

    /// <summary>Runs a workflow: its output, and while that goes on all other ends.</summary>
    internal static IObservable<object> Build(XmlElement workflow, params object[] outer)
    {
        List<XmlElement> nodes = workflow.SelectNodes("b:Nodes/b:Expression", names).Cast<XmlElement>().ToList();
        List<XmlElement> edges = workflow.SelectNodes("b:Edges/b:Edge", names).Cast<XmlElement>().ToList();
        if (edges.GroupBy(edge => edge.GetAttribute("From")).Any(group => group.Count() > 1))
            throw new NotSupportedException("a node with two successors");
        Func<int, object> build = null;
        build = index =>
        {
            XmlElement node = nodes[index];
            object[] inputs = edges.Where(edge => edge.GetAttribute("To") == index.ToString())
                .OrderBy(edge => edge.GetAttribute("Label")).Select(edge => int.Parse(edge.GetAttribute("From")))
                .Where(from => Kind(nodes[from]) != "ExternalizedMapping").Select(from => build(from)).ToArray();
            switch (Kind(node))
            {
                case "Combinator": return Call(Read((XmlElement)node.SelectSingleNode("b:Combinator", names)), inputs);
                case "GroupWorkflow": return Build((XmlElement)node.SelectSingleNode("b:Workflow", names));
                case "IncludeWorkflow": return Build(Include(node), inputs);
                case "WorkflowInput": return outer[inputs.Length];
                case "WorkflowOutput": return inputs.Single();
                default: throw new NotSupportedException(Kind(node));
            }
        };
        int[] ends = Enumerable.Range(0, nodes.Count).Where(index => Kind(nodes[index]) != "ExternalizedMapping" &&
            edges.All(edge => edge.GetAttribute("From") != index.ToString())).ToArray();
        IObservable<object> others = Observable.Merge(
            ends.Where(end => Kind(nodes[end]) != "WorkflowOutput").Select(end => Boxed(build(end)).IgnoreElements()));
        IObservable<object> output = Boxed(build(ends.Single(end => Kind(nodes[end]) == "WorkflowOutput")));
        return output.Publish(shared => shared.Merge(others.TakeUntil(shared.TakeLast(1))));
    }

    // The workflow of a file, with the values that the node has for what is externalized there.
    static XmlElement Include(XmlElement node)
    {
        XmlElement workflow = Load(node.GetAttribute("Path"));
        List<XmlElement> nodes = workflow.SelectNodes("b:Nodes/b:Expression", names).Cast<XmlElement>().ToList();
        foreach (XmlElement value in node.ChildNodes.OfType<XmlElement>())
        {
            var property = (XmlElement)workflow.SelectSingleNode("b:Nodes/b:Expression/b:Property[@DisplayName='" +
                value.LocalName + "' or not(@DisplayName) and @Name='" + value.LocalName + "']", names);
            int from = nodes.IndexOf((XmlElement)property.ParentNode);
            var edge = (XmlElement)workflow.SelectSingleNode("b:Edges/b:Edge[@From='" + from + "']", names);
            XmlElement target = nodes[int.Parse(edge.GetAttribute("To"))];
            var combinator = (XmlElement)target.SelectSingleNode("b:Combinator", names);
            XmlElement old = combinator.ChildNodes.OfType<XmlElement>()
                .Single(child => child.LocalName == property.GetAttribute("Name"));
            old.InnerText = value.InnerText;
        }
        return workflow;
    }

    static object Call(object combinator, object[] inputs)
    {
        Type type = combinator.GetType();
        var attribute = type.GetCustomAttributes(true).OfType<Bonsai.CombinatorAttribute>().Single();
        MethodInfo[] methods = type.GetMethods().Where(one => one.Name == attribute.MethodName).ToArray();
        MethodInfo method = methods.FirstOrDefault(one => !one.IsGenericMethodDefinition) ?? methods.Single();
        if (method.IsGenericMethodDefinition)
            method = method.MakeGenericMethod(inputs.Select(Element).ToArray());
        return method.Invoke(combinator, inputs);
    }

    static Type Element(object sequence)
    {
        return sequence.GetType().GetInterfaces()
            .Single(one => one.IsGenericType && one.GetGenericTypeDefinition() == typeof(IObservable<>))
            .GetGenericArguments().Single();
    }

    static IObservable<object> Boxed(object sequence)
    {
        return (IObservable<object>)typeof(Workflow).GetMethod("Box", BindingFlags.Static | BindingFlags.NonPublic)
            .MakeGenericMethod(Element(sequence)).Invoke(null, new[] { sequence });
    }

    static IObservable<object> Box<T>(IObservable<T> source)
    {
        return source.Select(element => (object)element);
    }
}
