// Command ambit-kube is every program of a Kubernetes cluster in one: its first argument says which one to be.
//
// All of them are built from one set of packages, so one program is a fraction of the size and of the build time of eight.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
	_ "time/tzdata" // CronJobs may name a time zone.

	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

// programs maps what the first argument may be to what then runs; the result is the exit code.
var programs = map[string]func() int{
	"coredns":                 coredns,
	"etcd":                    etcd,
	"kube-apiserver":          apiServer,
	"kube-controller-manager": controllerManager,
	"kube-proxy":              proxy,
	"kube-scheduler":          scheduler,
	"kubectl":                 kubectl,
	"kubelet":                 kubelet,
}

func main() {
	if len(os.Args) > 1 {
		if run, known := programs[os.Args[1]]; known {
			// Every program reads its arguments as if it had been called by its own name.
			os.Args = os.Args[1:]
			os.Exit(run())
		}
	}
	names := make([]string, 0, len(programs))
	for name := range programs {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintf(os.Stderr, "usage: ambit-kube PROGRAM ARGUMENTS…\nprograms: %s\n", strings.Join(names, " "))
	os.Exit(2)
}
