// Package cgroups makes, fills, empties and removes a control group by one name in every hierarchy of the machine.
//
// The groups are also how a cluster's processes are found again: whatever a crash left running is in them, whoever started it.
package cgroups

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long a kill or a removal may take: the kernel frees a group a moment after its last process.
const patience = 20 * time.Second

// hierarchy is one mounted tree of control groups.
type hierarchy struct {
	path    string
	unified bool
	cpuset  bool
}

// Make makes a group in every hierarchy, ready to take processes.
func Make(group string) error {
	trees, err := hierarchies()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		path := tree.path
		for _, part := range strings.Split(group, "/") {
			parent := path
			path = filepath.Join(path, part)
			if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			if err := tree.prepare(parent, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// Enter moves this process into a group, in every hierarchy.
func Enter(group string) error {
	trees, err := hierarchies()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		// Zero is whoever writes: right in every process namespace.
		if err := os.WriteFile(filepath.Join(tree.path, group, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Processes lists who is in a group or below it. A group that does not exist is empty.
func Processes(group string) ([]int, error) {
	trees, err := hierarchies()
	if err != nil {
		return nil, err
	}
	seen := map[int]bool{}
	for _, tree := range trees {
		for _, folder := range below(filepath.Join(tree.path, group)) {
			text, err := os.ReadFile(filepath.Join(folder, "cgroup.procs"))
			if err != nil {
				continue // Gone in the meantime.
			}
			for _, line := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(line); err == nil && pid > 0 {
					seen[pid] = true
				}
			}
		}
	}
	pids := make([]int, 0, len(seen))
	for pid := range seen {
		pids = append(pids, pid)
	}
	return pids, nil
}

// Kill ends every process in a group and below it, and returns when they are gone.
func Kill(group string) error {
	for until := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		pids, err := Processes(group)
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("processes %v of group %s do not die", pids, group)
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// Remove removes an empty group with everything below it.
func Remove(group string) error {
	trees, err := hierarchies()
	if err != nil {
		return err
	}
	for _, tree := range trees {
		path := filepath.Join(tree.path, group)
		for until := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			folders := below(path)
			if len(folders) == 0 {
				break
			}
			var last error
			for at := len(folders) - 1; at >= 0; at-- {
				if err := os.Remove(folders[at]); err != nil && !errors.Is(err, fs.ErrNotExist) {
					last = err
				}
			}
			if last != nil && time.Now().After(until) {
				return last
			}
		}
	}
	return nil
}

// Left names what still exists of a group.
func Left(group string) ([]string, error) {
	trees, err := hierarchies()
	var left []string
	for _, tree := range trees {
		left = append(left, below(filepath.Join(tree.path, group))...)
	}
	return left, err
}

// prepare gives a new group what it lacks to take processes.
func (h hierarchy) prepare(parent, group string) error {
	if h.unified {
		return delegate(parent)
	}
	if !h.cpuset {
		return nil
	}
	// A new group of this kind has no processors and no memory, and refuses every process.
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(group, file), bytes.TrimSpace(value), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// delegate lets the groups below one of the unified hierarchy use every controller that it has itself.
func delegate(group string) error {
	controllers, err := os.ReadFile(filepath.Join(group, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(controllers)) {
		if err := os.WriteFile(filepath.Join(group, "cgroup.subtree_control"), []byte("+"+name), 0o644); err != nil {
			return fmt.Errorf("controller %s in %s: %w", name, group, err)
		}
	}
	return nil
}

// below lists a folder and all folders in it, parents first; nothing if there is none.
func below(path string) []string {
	var folders []string
	_ = filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			folders = append(folders, path)
		}
		return nil
	})
	return folders
}

// hierarchies lists what is mounted.
func hierarchies() ([]hierarchy, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	trees := parse(string(text))
	if len(trees) == 0 {
		return nil, errors.New("no control groups are mounted below /sys/fs/cgroup")
	}
	return trees, nil
}

// parse reads the lines of mountinfo that show control groups.
func parse(mountinfo string) []hierarchy {
	var trees []hierarchy
	seen := map[string]bool{}
	lines := bufio.NewScanner(strings.NewReader(mountinfo))
	for lines.Scan() {
		mount, source, found := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(mount), strings.Fields(source)
		if !found || len(fields) < 5 || len(kind) < 3 || !strings.HasPrefix(kind[0], "cgroup") || seen[fields[4]] {
			continue
		}
		seen[fields[4]] = true
		tree := hierarchy{path: fields[4], unified: kind[0] == "cgroup2"}
		for _, option := range strings.Split(kind[2], ",") {
			tree.cpuset = tree.cpuset || (!tree.unified && option == "cpuset")
		}
		trees = append(trees, tree)
	}
	return trees
}
