package plan

import (
	"strings"
	"testing"
)

func TestNodesHaveNamesAddressesAndRangesOfTheirOwn(t *testing.T) {
	cluster, err := New("default", "/clusters", "/programs", 3)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{Outside: true, APIService: true, DNSService: true}
	for _, node := range cluster.Nodes {
		for _, own := range []string{node.Name(), node.Address(), node.Pods(), cluster.NodeFolder(node), cluster.NodeGroup(node)} {
			if seen[own] {
				t.Errorf("%s has %s, which is somebody else's, too", node.Name(), own)
			}
			seen[own] = true
		}
		if node.Control() != (node.Name() == "node1") {
			t.Errorf("%s: control plane %v", node.Name(), node.Control())
		}
		if !strings.HasPrefix(cluster.NodeGroup(node), cluster.Group()+"/") {
			t.Errorf("%s is not in the cluster's control group", node.Name())
		}
	}
	if found, err := cluster.Find("node3"); err != nil || found.Number != 3 {
		t.Errorf("node3 is %v, %v", found, err)
	}
	if _, err := cluster.Find("node4"); err == nil || !strings.Contains(err.Error(), "node1 to node3") {
		t.Errorf("node4: %v", err)
	}
}

func TestClustersShareNothing(t *testing.T) {
	seen := map[string]bool{}
	for _, each := range []struct{ name, clusters string }{{"default", "/a"}, {"default", "/b"}, {"other", "/a"}} {
		cluster, err := New(each.name, each.clusters, "/programs", 1)
		if err != nil {
			t.Fatal(err)
		}
		if seen[cluster.Group()] || seen[cluster.Folder] {
			t.Errorf("%s in %s shares its group %s or its folder with another", each.name, each.clusters, cluster.Group())
		}
		seen[cluster.Group()], seen[cluster.Folder] = true, true
	}
}

func TestWhatCannotBeIsRefused(t *testing.T) {
	cases := []struct {
		name  string
		nodes int
	}{
		{"", 2}, {"../other", 2}, {"Big", 2}, {"a/b", 2}, {"-a", 2}, {strings.Repeat("a", 21), 2}, {"default", 0}, {"default", MostNodes + 1},
	}
	for _, each := range cases {
		if _, err := New(each.name, "/clusters", "/programs", each.nodes); err == nil {
			t.Errorf("%q with %d nodes is accepted", each.name, each.nodes)
		}
	}
}
