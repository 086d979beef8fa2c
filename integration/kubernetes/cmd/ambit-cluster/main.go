// Command ambit-cluster runs a real Kubernetes cluster on one machine, without a container engine: nodes are namespaces.
//
//	up ── starts ──▶ keeper (own network: the switch; forwards the API's port)
//	                   └─ parent of ──▶ node1, node2 … (first process of own network, mounts, processes)
//	                                      └─ runs ──▶ etcd, kube-apiserver …, containerd, kubelet, kube-proxy, pods
//
// Whatever ends the keeper ends the nodes with it, and their namespaces take processes, links and mounts along. What then
// remains (control groups, files) bears the cluster's name, and the next up or down removes it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"ambit.mesh/kubernetes/internal/keeper"
	"ambit.mesh/kubernetes/internal/node"
	"ambit.mesh/kubernetes/internal/plan"
)

const usage = `usage: ambit-cluster [--name NAME] COMMAND

  up [--nodes N]              a cluster with N nodes (2 unless told otherwise); removes what a crash left of it first
  down                        ends it and removes everything of it
  status                      its nodes and their programs
  kubeconfig                  prints the path of the administrator's kubeconfig file
  load IMAGE.tar…             gives images (OCI or docker archives) to every node
  kubectl WORDS…              kubectl, as administrator
  run NODE COMMAND…           runs a command of this machine inside a node, or outside the cluster on its network
                              when NODE is "outside"
  stop NODE[/PROGRAM] [--kill]  stops a program of a node, or cuts the power of the whole node
  start NODE[/PROGRAM]        starts what was stopped
  check                       shows that a cluster does what it must, on one of its own
`

// options are what holds for every command.
type options struct {
	name     string
	clusters string
	programs string
}

func main() {
	var err error
	switch {
	// The other two processes that this program is.
	case len(os.Args) == 2 && os.Args[1] == "keeper":
		err = keeper.Main()
	case len(os.Args) == 2 && os.Args[1] == "node":
		err = node.Main()
	default:
		err = command()
	}
	// A command of the user's that has already said why; inside another error it is one of ours.
	if status, theirs := err.(*exec.ExitError); theirs && status.ExitCode() > 0 {
		os.Exit(status.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ambit-cluster:", err)
		os.Exit(1)
	}
}

// command performs what the words ask for.
func command() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	asked := options{programs: filepath.Dir(self)}
	flags := flag.NewFlagSet("ambit-cluster", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	flags.StringVar(&asked.name, "name", "default", "")
	flags.StringVar(&asked.clusters, "clusters", filepath.Join(filepath.Dir(asked.programs), "clusters"), "")
	if err := flags.Parse(os.Args[1:]); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("name a command\n\n" + usage)
	}
	words := flags.Args()[1:]
	switch name := flags.Arg(0); name {
	case "up":
		return asked.up(words)
	case "down":
		return asked.down(words)
	case "status":
		return asked.status(words)
	case "kubeconfig":
		return asked.kubeconfig(words)
	case "load":
		return asked.load(words)
	case "kubectl":
		return asked.kubectl(words)
	case "run":
		return asked.run(words)
	case "stop":
		return asked.stop(words)
	case "start":
		return asked.start(words)
	case "check":
		return asked.check(words)
	default:
		return fmt.Errorf("there is no command %q\n\n%s", name, usage)
	}
}

// plan describes the cluster that was asked for, whether it runs or not.
func (o options) plan(nodes int) (plan.Cluster, error) {
	return plan.New(o.name, o.clusters, o.programs, nodes)
}

// nothing refuses words where a command takes none.
func nothing(words []string) error {
	if len(words) > 0 {
		return fmt.Errorf("there is nothing to do with %q", words[0])
	}
	return nil
}
