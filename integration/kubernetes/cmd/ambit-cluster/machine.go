package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"

	"github.com/vishvananda/netlink"
)

// machine is what of this machine a cluster might have touched and must not: links, routes, rules, named network
// namespaces, mounts, processes. The keys are the things, in words.
type machine map[string]bool

// look takes the machine's present state down.
func look() (machine, error) {
	seen := machine{}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		seen["link "+link.Attrs().Name] = true
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	for _, route := range routes {
		seen["route "+route.String()] = true
	}
	rules, err := exec.Command("nft", "list", "tables").Output()
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	forwarding, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		return nil, err
	}
	seen.lines("nftables ", rules)
	seen.lines("mount ", mounts)
	seen.lines("forwarding ", forwarding)
	names, err := filepath.Glob("/run/netns/*")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		seen["network namespace "+name] = true
	}
	processes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, err
	}
	for _, process := range processes {
		// Threads of the kernel have none, and a process may have ended in the meantime.
		if program, err := os.Readlink(process); err == nil && ours(program) {
			seen["process "+process+" of "+program] = true
		}
	}
	return seen, nil
}

// ours reports whether only a cluster would run this program.
func ours(program string) bool {
	name := filepath.Base(strings.TrimSuffix(program, " (deleted)"))
	return strings.HasPrefix(name, "containerd") || strings.HasPrefix(name, "ambit-kube") || strings.HasPrefix(name, "ambit-pod")
}

func (m machine) lines(kind string, text []byte) {
	for _, line := range bytes.Split(bytes.TrimSpace(text), []byte("\n")) {
		m[kind+string(line)] = true
	}
}

// beyond lists what is there now and was not before.
func (m machine) beyond(before machine) []string {
	var more []string
	for thing := range m {
		if !before[thing] {
			more = append(more, thing)
		}
	}
	sort.Strings(more)
	return more
}
