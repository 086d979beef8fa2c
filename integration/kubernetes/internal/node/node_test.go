package node

import (
	"strings"
	"testing"
	"time"

	"ambit.mesh/kubernetes/internal/pki"
	"ambit.mesh/kubernetes/internal/plan"
)

func cluster(t *testing.T) plan.Cluster {
	t.Helper()
	cluster, err := plan.New("default", "/clusters", "/programs", 2)
	if err != nil {
		t.Fatal(err)
	}
	return cluster
}

func TestTheFirstNodeRunsTheControlPlaneAndEveryNodeItsAgents(t *testing.T) {
	agents := "containerd kubelet kube-proxy"
	expected := map[int]string{1: "etcd kube-apiserver kube-controller-manager kube-scheduler " + agents, 2: agents}
	for number, names := range expected {
		var found []string
		for _, service := range services(plan.Node{Number: number}) {
			found = append(found, service.name)
		}
		if strings.Join(found, " ") != names {
			t.Errorf("node%d runs %v", number, found)
		}
	}
}

// Every file that a program is told to read is written for its node.
func TestFilesThatArgumentsNameExist(t *testing.T) {
	authority, err := pki.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	cluster := cluster(t)
	for _, self := range cluster.Nodes {
		files, err := identities(self, Secrets{Authority: authority, Private: []byte("x"), Public: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		for path, text := range configuration(cluster, self) {
			files[path] = []byte(text)
			// Files that these name, in turn.
			for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" {}\n", r) }) {
				if strings.HasPrefix(word, plan.NodeKubernetes) && files[word] == nil {
					t.Errorf("%s: %s names %s, which does not exist", self.Name(), path, word)
				}
			}
		}
		for _, service := range services(self) {
			for _, word := range service.command {
				_, path, _ := strings.Cut(word, "=")
				if strings.HasPrefix(path, "/etc/") && files[path] == nil {
					t.Errorf("%s: %s is told to read %s, which does not exist", self.Name(), service.name, path)
				}
			}
		}
		if files[file("ca.key")] != nil != self.Control() {
			t.Errorf("%s: the authority's key: %v", self.Name(), files[file("ca.key")] != nil)
		}
	}
}

func TestConfigurationIsFilledIn(t *testing.T) {
	cluster := cluster(t)
	second := configuration(cluster, cluster.Nodes[1])
	cases := map[string]string{
		"/etc/hosts":                            "172.30.0.1 node1\n172.30.0.2 node2\n",
		plan.NodeNetworks + "/10-pods.conflist": `"subnet": "10.244.2.0/24"`,
		file("kubelet.yaml"):                    "cgroupRoot: /" + cluster.NodeGroup(cluster.Nodes[1]) + "\n",
		file("kube-proxy.yaml"):                 `hostnameOverride: "node2"`,
		containerdFile:                          `sandbox_image = "` + plan.PodImage + `"`,
	}
	for path, part := range cases {
		if !strings.Contains(second[path], part) {
			t.Errorf("%s does not hold %q:\n%s", path, part, second[path])
		}
	}
	for path, text := range second {
		if strings.Contains(text, "%!") {
			t.Errorf("%s is not filled in:\n%s", path, text)
		}
	}
}

func TestPausesGrowWhileAProgramKeepsEnding(t *testing.T) {
	steps := []struct {
		ran      time.Duration
		expected time.Duration
	}{
		{0, firstPause}, {0, 2 * firstPause}, {0, 4 * firstPause}, {2 * steady, firstPause}, {0, 2 * firstPause},
	}
	var pause time.Duration
	for at, step := range steps {
		if pause = nextPause(pause, step.ran); pause != step.expected {
			t.Errorf("step %d: %v, not %v", at, pause, step.expected)
		}
	}
	if last := nextPause(mostPause, 0); last != mostPause {
		t.Errorf("it grows to %v", last)
	}
}
