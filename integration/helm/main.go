// Command ambit-helm renders a chart as Helm does, with Helm's own packages, for comparison with `ambit install --dry-run`.
//
//	ambit-helm CHART [-f VALUES]... [--set NAME=VALUE]...
//
// It prints the objects as a JSON list, or what Helm says about the values, and then ends with 1.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/cli/values"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/getter"
	"helm.sh/helm/v3/pkg/releaseutil"
	"sigs.k8s.io/yaml"
)

const namespace = "ambit-system"

func main() {
	objects, err := render(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "ambit-helm:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(objects); err != nil {
		fmt.Fprintln(os.Stderr, "ambit-helm:", err)
		os.Exit(1)
	}
}

// options reads what stands behind the chart's folder.
func options(words []string) (values.Options, error) {
	var asked values.Options
	for len(words) > 0 {
		if len(words) == 1 {
			return asked, fmt.Errorf("%s needs a value", words[0])
		}
		switch words[0] {
		case "-f":
			asked.ValueFiles = append(asked.ValueFiles, words[1])
		case "--set":
			asked.Values = append(asked.Values, words[1])
		default:
			return asked, fmt.Errorf("%s is not known", words[0])
		}
		words = words[2:]
	}
	return asked, nil
}

// render returns the objects of a release and the chart's definitions.
func render(words []string) ([]map[string]any, error) {
	if len(words) == 0 {
		return nil, fmt.Errorf("name the chart's folder")
	}
	asked, err := options(words[1:])
	if err != nil {
		return nil, err
	}
	chart, err := loader.LoadDir(words[0])
	if err != nil {
		return nil, err
	}
	given, err := asked.MergeValues(getter.Providers{})
	if err != nil {
		return nil, err
	}
	release := chartutil.ReleaseOptions{Name: "ambit", Namespace: namespace, Revision: 1, IsInstall: true}
	// Values are held against the schema here.
	root, err := chartutil.ToRenderValues(chart, given, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, root)
	if err != nil {
		return nil, err
	}
	var objects []map[string]any
	for _, definition := range chart.CRDObjects() {
		if objects, err = add(objects, string(definition.File.Data)); err != nil {
			return nil, err
		}
	}
	var names []string
	for name := range files {
		if strings.HasSuffix(name, ".yaml") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		if objects, err = add(objects, files[name]); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return objects, nil
}

// add appends every document of a file that holds something.
func add(objects []map[string]any, file string) ([]map[string]any, error) {
	for _, document := range releaseutil.SplitManifests(file) {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			return nil, err
		}
		if len(object) > 0 {
			objects = append(objects, object)
		}
	}
	return objects, nil
}
