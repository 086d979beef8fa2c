// Package helm compares what Helm makes of deploy/chart with what `ambit install` makes of it: the same objects from the
// same values, and the same values refused.
//
//	AMBIT=target/release/ambit go test ./...
package helm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/cli/values"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/getter"
	"sigs.k8s.io/yaml"
)

// where the chart is, from here.
const folder = "../../deploy/chart"

// sets of values: a profile, and what is set.
var agreed = []struct {
	profile string
	sets    []string
}{
	{"default", nil},
	{"demo", nil},
	{"minimal", nil},
	{"default", []string{
		`mesh.accessLogFormat=<%REQ(a)%>&"x"`,
		"image.hub=registry.example/mesh,image.tag=1.2,image.pullPolicy=Never,image.pullSecrets={one,two}",
		"mesh.trustDomain=td.example,mesh.accessLogFile=/dev/stdout,mesh.defaultConfig.concurrency=2",
		"cluster.name=blue,cluster.network=n1,logging.format=json",
	}},
	{"demo", []string{
		"controller.replicas=3,controller.istioWaypoints=false,controller.env.AMBIT_GATHER=7ms",
		"controller.podDisruptionBudget.enabled=true,controller.priorityClassName=",
		`ztunnel.nodeSelector.disk\.example/kind=ssd,ztunnel.maxUnavailable=10%,ztunnel.resources.limits.cpu=2`,
		"ztunnel.tolerations[0].key=dedicated,ztunnel.tolerations[0].operator=Exists,ztunnel.podAnnotations.team=x",
		"ztunnel.resources.limits.memory=null,node.tolerations=null",
	}},
	{"minimal", []string{"webhook.enabled=true,node.cni.binDir=/opt/bin,node.cni.whenAway=allow,node.env.A=1,node.env.B=true"}},
}

// values that both refuse, and a part of what ambit says.
var refused = [][2]string{
	{"controller.replica=3", "write replicas"},
	{"contoller.replicas=3", "write controller"},
	{"controller.replicas=many", "must be integer"},
	{"controller.replicas=0", "at least 1"},
	{"image.pullPolicy=Sometimes", "must be one of"},
	{"image.hub=", "must not be empty"},
	{"webhook.enabled=yes", "must be boolean"},
	{"ztunnel.resources.limits.memory=much", "must look like"},
	{"ztunnel.tolerations[0].operater=Exists", "write operator"},
	{"node.cni.binDir=opt", "must look like"},
}

func TestSameObjects(t *testing.T) {
	for _, asked := range agreed {
		t.Run(asked.profile+" "+strings.Join(asked.sets, " "), func(t *testing.T) {
			// Helm leaves the namespace to a flag of its own unless it is told.
			helms, err := render(asked.profile, append([]string{"namespace.create=true"}, asked.sets...))
			if err != nil {
				t.Fatal(err)
			}
			text, err := ambit(asked.profile, asked.sets)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := objects(text)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, helms, ours)
		})
	}
}

func TestSameRefusals(t *testing.T) {
	for _, one := range refused {
		if _, err := render("default", []string{one[0]}); err == nil {
			t.Errorf("Helm takes %s", one[0])
		}
		if _, err := ambit("default", []string{one[0]}); err == nil || !strings.Contains(err.Error(), one[1]) {
			t.Errorf("ambit with %s: %v", one[0], err)
		}
	}
}

// compare fails for every object that is not the same.
func compare(t *testing.T, helms, ours map[string]any) {
	t.Helper()
	if len(helms) < 25 {
		t.Errorf("Helm makes no more than %d objects", len(helms))
	}
	for name, object := range helms {
		if got, want := text(ours[name]), text(object); got != want {
			t.Errorf("%s\n  Helm:  %s\n  ambit: %s", name, want, got)
		}
	}
	for name := range ours {
		if helms[name] == nil {
			t.Errorf("Helm makes no %s", name)
		}
	}
}

func text(object any) string {
	bytes, err := json.Marshal(object)
	if err != nil {
		return err.Error()
	}
	// Who looks after an object is all that may differ.
	return strings.ReplaceAll(string(bytes), `"app.kubernetes.io/managed-by":"Helm"`, `"app.kubernetes.io/managed-by":"ambit"`)
}

// ambit returns what `ambit install --dry-run` prints.
func ambit(profile string, sets []string) (string, error) {
	program := os.Getenv("AMBIT")
	if program == "" {
		return "", fmt.Errorf("AMBIT names no program")
	}
	words := []string{"install", "--dry-run", "--profile", profile}
	for _, set := range sets {
		words = append(words, "--set", set)
	}
	var said, complained bytes.Buffer
	command := exec.Command(program, words...)
	command.Stdout, command.Stderr = &said, &complained
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, complained.String())
	}
	return said.String(), nil
}

// render returns the objects of a release, and the chart's definitions.
func render(profile string, sets []string) (map[string]any, error) {
	held, err := loader.LoadDir(folder)
	if err != nil {
		return nil, err
	}
	root, err := given(held, profile, sets)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(held, root)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, definition := range held.CRDObjects() {
		all = append(all, string(definition.File.Data))
	}
	for name, file := range files {
		if strings.HasSuffix(name, ".yaml") {
			all = append(all, file)
		}
	}
	return objects(strings.Join(all, "\n---\n"))
}

// given returns what templates see; values are held against the schema here.
func given(held *chart.Chart, profile string, sets []string) (chartutil.Values, error) {
	files := []string{filepath.Join(folder, "profiles", profile+".yaml")}
	asked := values.Options{ValueFiles: files, Values: sets}
	merged, err := asked.MergeValues(getter.Providers{})
	if err != nil {
		return nil, err
	}
	release := chartutil.ReleaseOptions{Name: "ambit", Namespace: "ambit-system", Revision: 1, IsInstall: true}
	return chartutil.ToRenderValues(held, merged, release, chartutil.DefaultCapabilities)
}

// objects reads documents, by kind and name.
func objects(file string) (map[string]any, error) {
	found := map[string]any{}
	for _, document := range strings.Split("\n"+file, "\n---") {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			return nil, fmt.Errorf("%w in %s", err, document)
		}
		if len(object) == 0 {
			continue
		}
		metadata, _ := object["metadata"].(map[string]any)
		name := fmt.Sprint(object["kind"], " ", metadata["namespace"], "/", metadata["name"])
		if found[name] != nil {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		found[name] = object
	}
	return found, nil
}
