package cgroups

import (
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"testing"
)

func TestHierarchiesAreRead(t *testing.T) {
	cases := []struct {
		name, mountinfo string
		expected        []hierarchy
	}{
		{"unified", "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", []hierarchy{{path: "/sys/fs/cgroup", unified: true}}},
		{
			"one for each controller, and something else",
			"22 1 8:1 / / rw - ext4 /dev/sda rw\n" +
				"31 23 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n" +
				"32 23 0:28 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,name=systemd\n",
			[]hierarchy{{path: "/sys/fs/cgroup/cpuset", cpuset: true}, {path: "/sys/fs/cgroup/systemd"}},
		},
		{
			"mounted twice at one place",
			"31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n",
			[]hierarchy{{path: "/sys/fs/cgroup/cpu"}},
		},
		{"none", "22 1 8:1 / / rw - ext4 /dev/sda rw\n", nil},
	}
	for _, each := range cases {
		if found := parse(each.mountinfo); !reflect.DeepEqual(found, each.expected) {
			t.Errorf("%s: %+v", each.name, found)
		}
	}
}

func TestProcessesOfAGroupAreFoundKilledAndForgotten(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root makes control groups")
	}
	group := fmt.Sprintf("ambit-cluster-test-%d", os.Getpid())
	defer func() { _ = Remove(group) }()
	if err := Make(group + "/inner"); err != nil {
		t.Fatal(err)
	}
	trees, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	sleeper := exec.Command("sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- sleeper.Wait() }()
	// In one hierarchy only, as something may be that moved itself in the others.
	place := fmt.Sprintf("%s/%s/inner/cgroup.procs", trees[0].path, group)
	if err := os.WriteFile(place, fmt.Append(nil, sleeper.Process.Pid), 0o644); err != nil {
		t.Fatal(err)
	}
	if found, err := Processes(group); err != nil || !reflect.DeepEqual(found, []int{sleeper.Process.Pid}) {
		t.Fatalf("found %v, %v", found, err)
	}
	if err := Kill(group); err != nil {
		t.Fatal(err)
	}
	<-ended
	if err := Remove(group); err != nil {
		t.Fatal(err)
	}
	if left, err := Left(group); err != nil || len(left) > 0 {
		t.Fatalf("left %v, %v", left, err)
	}
	// What does not exist is empty, and is removed.
	if err := Kill(group); err != nil {
		t.Error(err)
	}
	if err := Remove(group); err != nil {
		t.Error(err)
	}
}
