package main

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"ambit.mesh/kubernetes/internal/cgroups"
	"ambit.mesh/kubernetes/internal/image"
	"ambit.mesh/kubernetes/internal/keeper"
	"ambit.mesh/kubernetes/internal/node"
	"ambit.mesh/kubernetes/internal/plan"
)

const (
	// checked is the name of the cluster that a check has to itself.
	checked = "check"
	// checkedImage is under a name of its own, so that only loading it can have brought it to the nodes.
	checkedImage = "check.ambit.mesh/web:1"
	// soon is how long what should happen at once may take.
	soon = 90 * time.Second
)

//go:embed web.yaml
var web string

// trial is a cluster under check.
type trial struct {
	options
	cluster plan.Cluster
	before  machine
}

// check brings a cluster up, tries everything that one expects of it, and takes it down.
func (o options) check(words []string) error {
	if err := nothing(words); err != nil {
		return err
	}
	o.name = checked
	cluster, err := o.plan(2)
	if err != nil {
		return err
	}
	t := &trial{options: o, cluster: cluster}
	steps := []struct {
		promise string
		keep    func() error
	}{
		{"what a crash left is removed", t.startsAfresh},
		{"two nodes are ready", func() error { return o.up(nil) }},
		{"after kill -9 nothing runs on, and the next up works", t.survivesKill},
		{"an image is loaded into both nodes", t.loads},
		{"a Deployment with readiness probes runs on both nodes", t.deploys},
		{"pods reach pods, Services and names from both nodes", t.connects},
		{"logs, exec and port-forward work", t.attaches},
		{"the API server restarts while traffic goes on", t.losesServer},
		{"a node comes back after a power cut", t.losesNode},
		{"after down the machine is as it was", t.leavesNothing},
	}
	for _, step := range steps {
		began := time.Now()
		if err := step.keep(); err != nil {
			return errors.Join(fmt.Errorf("FAIL  %s: %w", step.promise, err), logs(cluster), remove(cluster))
		}
		fmt.Printf("ok    %s (%.1f s)\n", step.promise, time.Since(began).Seconds())
	}
	return nil
}

// startsAfresh removes an earlier check's cluster, and takes down how the machine looks without one.
func (t *trial) startsAfresh() error {
	if err := remove(t.cluster); err != nil {
		return err
	}
	var err error
	t.before, err = look()
	return err
}

// survivesKill kills the keeper, as a crash would: once while everything runs, once just after its start.
func (t *trial) survivesKill() error {
	if err := t.killed(); err != nil {
		return err
	}
	if err := errors.Join(remove(t.cluster), os.MkdirAll(t.cluster.Folder, 0o755)); err != nil {
		return err
	}
	if _, err := start(t.cluster); err != nil {
		return err
	}
	if err := eventually(soon, t.killed); err != nil {
		return err
	}
	return t.up(nil)
}

// killed kills the keeper and waits until everything has gone with it.
func (t *trial) killed() error {
	keepers, err := cgroups.Processes(t.cluster.Group() + "/keeper")
	if err != nil || len(keepers) != 1 {
		return fmt.Errorf("one keeper expected, not %v: %w", keepers, err)
	}
	if err := syscall.Kill(keepers[0], syscall.SIGKILL); err != nil {
		return err
	}
	return eventually(soon, func() error {
		left, err := cgroups.Processes(t.cluster.Group())
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%d processes run on", len(left))
		}
		return err
	})
}

func (t *trial) loads() error {
	archive := filepath.Join(t.cluster.Folder, "web.tar")
	if err := image.Write(archive, checkedImage, t.cluster.Program(plan.PodProgram)); err != nil {
		return err
	}
	return t.load([]string{archive})
}

func (t *trial) deploys() error {
	if err := quiet(t.kubectlCommand(t.cluster, "apply", "-f", "-"), fmt.Sprintf(web, checkedImage)); err != nil {
		return err
	}
	if err := t.rolledOut(); err != nil {
		return err
	}
	pods, err := t.pods()
	if err != nil {
		return err
	}
	if len(pods[0]) != 2 || len(pods[1]) != 2 {
		return fmt.Errorf("two pods expected on each node, not %v", pods)
	}
	return nil
}

// connects tries every pod, the Service's address and its name, from one pod of each node.
func (t *trial) connects() error {
	pods, err := t.pods()
	if err != nil {
		return err
	}
	address, err := t.address()
	if err != nil {
		return err
	}
	for _, client := range []pod{pods[0][0], pods[1][0]} {
		for _, server := range append(pods[0], pods[1]...) {
			said, err := t.fetch(client, server.Status.PodIP+":8080")
			if err == nil && said != server.Metadata.Name {
				err = fmt.Errorf("%s answers as %q", server.Metadata.Name, said)
			}
			if err != nil {
				return err
			}
		}
		for _, service := range []string{address, "web", "web.default.svc." + plan.ClusterDomain} {
			if _, err := t.fetch(client, service); err != nil {
				return err
			}
		}
	}
	return nil
}

// attaches reads the log of a pod that has just been called by a URL of its own, and calls it from the machine. (Fetching
// has shown exec.)
func (t *trial) attaches() error {
	pods, err := t.pods()
	if err != nil {
		return err
	}
	for at, server := range []pod{pods[0][0], pods[1][0]} {
		mark := fmt.Sprintf("/mark-%d", at)
		if _, err := t.fetch(pods[1-at][0], server.Status.PodIP+":8080"+mark); err != nil {
			return err
		}
		// A line takes a moment from the pod to its file.
		err := eventually(soon, func() error {
			log, err := t.kubectlPrints("logs", server.Metadata.Name)
			if err == nil && !strings.Contains(log, mark) {
				err = fmt.Errorf("the log of %s does not show %s", server.Metadata.Name, mark)
			}
			return err
		})
		if err == nil {
			err = t.forwards(server)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forwards calls a pod through a port of the machine.
func (t *trial) forwards(server pod) error {
	forward := t.kubectlCommand(t.cluster, "port-forward", server.Metadata.Name, ":8080")
	printed, err := forward.StdoutPipe()
	if err != nil {
		return err
	}
	if err := forward.Start(); err != nil {
		return err
	}
	defer func() { _, _ = forward.Process.Kill(), forward.Wait() }()
	// "Forwarding from 127.0.0.1:40123 -> 8080"
	line, err := bufio.NewReader(printed).ReadString('\n')
	fields := strings.Fields(line)
	if err != nil || len(fields) < 3 {
		return fmt.Errorf("port-forward says %q: %w", line, err)
	}
	client := http.Client{Timeout: soon}
	response, err := client.Get("http://" + fields[2])
	if err != nil {
		return err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if name := strings.TrimSpace(string(said)); err == nil && name != server.Metadata.Name {
		err = fmt.Errorf("%s answers as %q", server.Metadata.Name, name)
	}
	return err
}

// losesServer kills the API server. Traffic is tried from inside the nodes, since exec would need the server.
func (t *trial) losesServer() error {
	before, err := t.pods()
	if err != nil {
		return err
	}
	address, err := t.address()
	if err != nil {
		return err
	}
	server := keeper.Target{Node: "node1", Order: node.Order{Program: "kube-apiserver", Kill: true}}
	if err := t.call("Keeper.Stop", server, &node.Nothing{}); err != nil {
		return err
	}
	if _, err := t.kubectlPrints("get", "--raw=/readyz"); err == nil {
		return errors.New("the API server answers although it was stopped")
	}
	state, err := t.states()
	if err != nil {
		return err
	}
	// Across nodes, by a Service's address.
	client, err := inside(state.Nodes[1], filepath.Join(plan.NodePrograms, plan.PodProgram), "get", "http://"+address)
	if err != nil {
		return err
	}
	if _, err := output(client); err != nil {
		return err
	}
	if err := t.call("Keeper.Start", server, &node.Nothing{}); err != nil {
		return err
	}
	if err := eventually(soon, func() error { _, err := t.kubectlPrints("get", "--raw=/readyz"); return err }); err != nil {
		return err
	}
	after, err := t.pods()
	if err != nil {
		return err
	}
	if have, had := fmt.Sprint(after), fmt.Sprint(before); have != had {
		return fmt.Errorf("the pods were %s and are %s", had, have)
	}
	return nil
}

// losesNode cuts the power of the second node, and waits until its pods run again.
func (t *trial) losesNode() error {
	target := keeper.Target{Node: "node2"}
	if err := t.call("Keeper.Stop", target, &node.Nothing{}); err != nil {
		return err
	}
	if err := t.call("Keeper.Start", target, &node.Nothing{}); err != nil {
		return err
	}
	// All at once: a count of restarts is how a pod shows that it knows.
	err := eventually(soon, func() error {
		pods, err := t.pods()
		if err != nil {
			return err
		}
		for _, each := range pods[1] {
			if each.restarts() == 0 {
				return fmt.Errorf("%s has not been started again", each.Metadata.Name)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := t.rolledOut(); err != nil {
		return err
	}
	return eventually(soon, t.connects)
}

// leavesNothing takes the cluster down and compares the machine with what it was.
func (t *trial) leavesNothing() error {
	if err := t.down(nil); err != nil {
		return err
	}
	left, err := cgroups.Left(t.cluster.Group())
	if err != nil {
		return err
	}
	if _, err := os.Stat(t.cluster.Folder); err == nil {
		left = append(left, t.cluster.Folder)
	}
	after, err := look()
	if err != nil {
		return err
	}
	if left = append(left, after.beyond(t.before)...); len(left) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	// A second time there is nothing to do, and nothing to complain about.
	return t.down(nil)
}

// pod is what a check reads of one.
type pod struct {
	Metadata struct{ Name string }
	Spec     struct{ NodeName string }
	Status   struct {
		PodIP             string
		ContainerStatuses []struct{ RestartCount int }
	}
}

func (p pod) restarts() int {
	var sum int
	for _, container := range p.Status.ContainerStatuses {
		sum += container.RestartCount
	}
	return sum
}

// pods lists those of the Deployment, by node.
func (t *trial) pods() ([2][]pod, error) {
	var byNode [2][]pod
	printed, err := t.kubectlPrints("get", "pods", "--selector=app=web", "-o", "json")
	if err != nil {
		return byNode, err
	}
	var list struct{ Items []pod }
	if err := json.Unmarshal([]byte(printed), &list); err != nil {
		return byNode, err
	}
	for _, each := range list.Items {
		found, err := t.cluster.Find(each.Spec.NodeName)
		if err != nil {
			return byNode, err
		}
		byNode[found.Number-1] = append(byNode[found.Number-1], each)
	}
	return byNode, nil
}

// address is that of the Service.
func (t *trial) address() (string, error) {
	return t.kubectlPrints("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
}

func (t *trial) rolledOut() error {
	_, err := t.kubectlPrints("rollout", "status", "deployment/web", fmt.Sprintf("--timeout=%v", soon))
	return err
}

// fetch calls a host from inside a pod, and returns the first line of the answer.
func (t *trial) fetch(from pod, host string) (string, error) {
	answer, err := t.kubectlPrints("exec", from.Metadata.Name, "--", "/"+plan.PodProgram, "get", "http://"+host)
	if err != nil {
		return "", fmt.Errorf("from %s to %s: %w", from.Metadata.Name, host, err)
	}
	return strings.TrimSpace(answer), nil
}

func (t *trial) kubectlPrints(words ...string) (string, error) {
	printed, err := output(t.kubectlCommand(t.cluster, words...))
	return string(printed), err
}

// eventually tries until it succeeds or time is up.
func eventually(limit time.Duration, try func() error) error {
	for began := time.Now(); ; time.Sleep(interval) {
		err := try()
		if err == nil || time.Since(began) > limit {
			return err
		}
	}
}
