// Package node is one node of a cluster: the first process of its namespaces, which runs a kubelet and what belongs to it.
package node

import (
	"encoding/json"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"path/filepath"

	"ambit.mesh/kubernetes/internal/cgroups"
	"ambit.mesh/kubernetes/internal/plan"
	"ambit.mesh/kubernetes/internal/wires"
)

// ControlFile is the number of the open file by which the keeper talks with a node.
const ControlFile = 3

// Task is what the keeper tells the first process of a node, as JSON on its standard input.
type Task struct {
	Cluster plan.Cluster
	Number  int
}

// Order names a program of the node, and how to stop it.
type Order struct {
	Program string
	// Kill spares the program nothing: no signal that it could handle.
	Kill bool
}

// Control is what the keeper can ask of a node.
type Control struct {
	supervisor *supervisor
	wired      chan struct{}
}

// Nothing is the empty question and the empty answer.
type Nothing struct{}

// Wired says that the node's cable is plugged in.
func (c *Control) Wired(_ Nothing, _ *Nothing) error {
	close(c.wired)
	return nil
}

// States lists the node's programs.
func (c *Control) States(_ Nothing, states *[]State) error {
	*states = c.supervisor.states()
	return nil
}

// Stop ends a program until it is started again.
func (c *Control) Stop(order Order, _ *Nothing) error {
	return c.supervisor.stop(order.Program, order.Kill)
}

// Start starts a program that was stopped.
func (c *Control) Start(order Order, _ *Nothing) error { return c.supervisor.begin(order.Program) }

// Main is the first process of a node, alone in new namespaces. It returns only when something fails.
func Main() error {
	var task Task
	if err := json.NewDecoder(os.Stdin).Decode(&task); err != nil {
		return fmt.Errorf("task: %w", err)
	}
	self := plan.Node{Number: task.Number}
	group := filepath.Join(task.Cluster.NodeGroup(self), "system")
	if err := cgroups.Make(group); err != nil {
		return err
	}
	if err := cgroups.Enter(group); err != nil {
		return err
	}
	if err := mounts(task.Cluster, self); err != nil {
		return err
	}
	connection, err := net.FileConn(os.NewFile(ControlFile, "control"))
	if err != nil {
		return err
	}
	control := &Control{supervisor: newSupervisor(services(self)), wired: make(chan struct{})}
	server := rpc.NewServer()
	if err := server.RegisterName("Node", control); err != nil {
		return err
	}
	go func() {
		server.ServeConn(connection)
		// Without its keeper a node has no cable and no purpose.
		os.Exit(0)
	}()
	<-control.wired
	if err := wires.Node(self, task.Cluster); err != nil {
		return err
	}
	control.supervisor.run()
	return nil
}
