package main

import (
	"testing"

	"ambit.mesh/kubernetes/internal/keeper"
	"ambit.mesh/kubernetes/internal/node"
)

func TestTargetsAreRead(t *testing.T) {
	cases := []struct {
		words    []string
		expected keeper.Target
	}{
		{[]string{"node2"}, keeper.Target{Node: "node2"}},
		{[]string{"node1/kubelet"}, keeper.Target{Node: "node1", Order: node.Order{Program: "kubelet"}}},
		{[]string{"--kill", "node1/kubelet"}, keeper.Target{Node: "node1", Order: node.Order{Program: "kubelet", Kill: true}}},
	}
	for _, each := range cases {
		if found, err := target(each.words); err != nil || found != each.expected {
			t.Errorf("%v: %+v, %v", each.words, found, err)
		}
	}
	for _, words := range [][]string{nil, {"--kill"}, {"node1", "node2"}} {
		if _, err := target(words); err == nil {
			t.Errorf("%v is accepted", words)
		}
	}
}

func TestWhatIsNewOnAMachineIsSeen(t *testing.T) {
	before := machine{"link lo": true, "mount /": true}
	after := machine{"link lo": true, "link cni0": true, "network namespace x": true}
	more := after.beyond(before)
	if len(more) != 2 || more[0] != "link cni0" || more[1] != "network namespace x" {
		t.Errorf("%v", more)
	}
	if !ours("/usr/bin/containerd-shim-runc-v2") || !ours("/x/ambit-kube (deleted)") || ours("/usr/bin/bash") {
		t.Error("programs of a cluster are not told from others")
	}
}
