package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"ambit.mesh/kubernetes/internal/cgroups"
	"ambit.mesh/kubernetes/internal/keeper"
	"ambit.mesh/kubernetes/internal/plan"
)

// startLimit is how long a cluster may take to come up, on a machine that is busy with something else.
const startLimit = 5 * time.Minute

// interval between two looks at something that is awaited.
const interval = 200 * time.Millisecond

//go:embed dns.yaml
var dns string

// up starts a cluster. One that runs already is only awaited: whoever began it may not have seen the end.
func (o options) up(words []string) error {
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	nodes := flags.Int("nodes", 2, "how many nodes")
	if err := flags.Parse(words); err != nil {
		return err
	}
	if err := nothing(flags.Args()); err != nil {
		return err
	}
	cluster, err := o.plan(*nodes)
	if err != nil {
		return err
	}
	unlock, err := lock(cluster)
	if err != nil {
		return err
	}
	defer unlock()
	if running, err := o.states(); err == nil {
		if have := len(running.Cluster.Nodes); have != *nodes {
			return fmt.Errorf("cluster %q is up with %d nodes: take it down first", o.name, have)
		}
		return o.await(cluster, nil)
	}
	if err := errors.Join(remove(cluster), os.MkdirAll(cluster.Folder, 0o755)); err != nil {
		return err
	}
	ended, err := start(cluster)
	if err == nil {
		err = o.await(cluster, ended)
	}
	if err != nil {
		return errors.Join(err, logs(cluster), remove(cluster))
	}
	return nil
}

// await returns when a cluster does what one expects of it. How its keeper ends, if it does, comes through the channel.
func (o options) await(cluster plan.Cluster, ended <-chan error) error {
	began := time.Now()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(stop)
	for _, step := range o.steps(cluster) {
		for {
			err := step.try()
			if err == nil {
				fmt.Printf("%5.1f s  %s\n", time.Since(began).Seconds(), step.done)
				break
			}
			if time.Since(began) > startLimit {
				return fmt.Errorf("%q is not so within %v: %w", step.done, startLimit, err)
			}
			select {
			case <-stop:
				return errors.New("interrupted")
			case err := <-ended:
				return fmt.Errorf("the keeper has ended: %w", err)
			case <-time.After(interval):
			}
		}
	}
	fmt.Printf("\nexport KUBECONFIG=%s\n", cluster.Kubeconfig())
	return nil
}

// step is something that a start waits for: what is so then, and how to find out.
type step struct {
	done string
	try  func() error
}

// steps are what a start waits for, in order.
func (o options) steps(cluster plan.Cluster) []step {
	kubectl := func(input string, words ...string) func() error {
		return func() error { return quiet(o.kubectlCommand(cluster, words...), input) }
	}
	manifest := fmt.Sprintf(dns, plan.DNSService, plan.ClusterDomain, plan.PodImage, len(cluster.Nodes))
	return []step{
		{"the API server is ready", kubectl("", "get", "--raw=/readyz")},
		{fmt.Sprintf("%d nodes have registered", len(cluster.Nodes)), o.registered(cluster)},
		{"the cluster's DNS is deployed", kubectl(manifest, "apply", "-f", "-")},
		{"all nodes are ready", kubectl("", "wait", "--for=condition=Ready", "node", "--all", "--timeout=10s")},
		{"names are served", kubectl("", "--namespace=kube-system", "rollout", "status", "deployment/coredns", "--timeout=10s")},
	}
}

// registered asks whether the API server knows every node.
func (o options) registered(cluster plan.Cluster) func() error {
	return func() error {
		names, err := output(o.kubectlCommand(cluster, "get", "nodes", "-o", "name"))
		if have := bytes.Count(names, []byte("\n")); err == nil && have < len(cluster.Nodes) {
			return fmt.Errorf("%d of %d nodes", have, len(cluster.Nodes))
		}
		return err
	}
}

// start starts a keeper that outlives us; how it ends comes through the channel.
func start(cluster plan.Cluster) (<-chan error, error) {
	task, err := json.Marshal(cluster)
	if err != nil {
		return nil, err
	}
	// The machine's own loopback address: the keeper's network is another.
	api, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	defer api.Close()
	listener, err := api.File()
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	log, err := os.Create(cluster.KeeperLog())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command := exec.Command("/proc/self/exe", "keeper")
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(task), log, log
	command.ExtraFiles = []*os.File{listener}
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: keeper.Flags, Setsid: true}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("the keeper (new namespaces need root): %w", err)
	}
	ended := make(chan error, 1)
	go func() {
		err := command.Wait()
		if err == nil {
			err = errors.New("without a word")
		}
		ended <- err
	}()
	return ended, nil
}

// lock makes sure that only one command at a time changes a cluster.
func lock(cluster plan.Cluster) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(cluster.Folder), 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(cluster.Folder+".lock", os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another command is at work on cluster %q", cluster.Name), file.Close())
	}
	return func() { _ = file.Close() }, nil
}

// remove ends whatever runs of a cluster and removes whatever is left of it.
func remove(cluster plan.Cluster) error {
	if err := cgroups.Kill(cluster.Group()); err != nil {
		return err
	}
	if err := cgroups.Remove(cluster.Group()); err != nil {
		return err
	}
	return os.RemoveAll(cluster.Folder)
}

// logs shows the ends of what the keeper and the nodes' programs said last.
func logs(cluster plan.Cluster) error {
	files, err := filepath.Glob(filepath.Join(cluster.NodesFolder(), "*", plan.NodeLogs, "*.log"))
	for _, path := range append(files, cluster.KeeperLog()) {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		fmt.Fprintf(os.Stderr, "== %s\n%s\n", path, bytes.Join(lines[max(0, len(lines)-12):], []byte("\n")))
	}
	return err
}
