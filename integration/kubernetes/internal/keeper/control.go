package keeper

import (
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"syscall"

	"ambit.mesh/kubernetes/internal/node"
	"ambit.mesh/kubernetes/internal/plan"
)

// Control is what clients can ask of a keeper.
type Control struct {
	keeper *Keeper
	boots  chan boot
}

// boot asks the keeper's first thread to start a node.
type boot struct {
	node plan.Node
	done chan error
}

// Target is a node, or one of its programs.
type Target struct {
	Node string
	// Order names the program; the whole node if it names none.
	Order node.Order
}

// NodeState is how a node does.
type NodeState struct {
	Node plan.Node
	// PID is its first process, as the machine numbers it; zero when the node is stopped.
	PID      int
	Programs []node.State
}

// State is how a cluster does.
type State struct {
	Cluster plan.Cluster
	// PID is the keeper's, whose network is what the nodes have for the outside world.
	PID   int
	Nodes []NodeState
}

// serve answers clients, and starts nodes for them. It returns only when something fails.
func (k *Keeper) serve() error {
	// By a short name: the path of a socket may only be about a hundred bytes long.
	if err := os.Chdir(k.cluster.Folder); err != nil {
		return err
	}
	listener, err := net.Listen("unix", plan.Socket)
	if err != nil {
		return err
	}
	control := &Control{keeper: k, boots: make(chan boot)}
	server := rpc.NewServer()
	if err := server.RegisterName("Keeper", control); err != nil {
		return err
	}
	go server.Accept(listener)
	for asked := range control.boots {
		asked.done <- k.boot(asked.node)
	}
	return nil
}

// States says how everything does.
func (c *Control) States(_ node.Nothing, state *State) error {
	state.Cluster, state.PID = c.keeper.cluster, os.Getpid()
	for _, each := range c.keeper.cluster.Nodes {
		found := NodeState{Node: each}
		if running := c.keeper.running(each); running != nil {
			found.PID = running.pid
			if err := running.control.Call("Node.States", node.Nothing{}, &found.Programs); err != nil {
				return err
			}
		}
		state.Nodes = append(state.Nodes, found)
	}
	return nil
}

// Stop ends a program, or a whole node as if its power were cut.
func (c *Control) Stop(target Target, _ *node.Nothing) error {
	running, _, err := c.find(target)
	if err != nil || running == nil {
		return err
	}
	if target.Order.Program != "" {
		return running.control.Call("Node.Stop", target.Order, &node.Nothing{})
	}
	if err := syscall.Kill(running.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	<-running.ended
	return nil
}

// Start starts a program or a whole node that was stopped.
func (c *Control) Start(target Target, _ *node.Nothing) error {
	running, self, err := c.find(target)
	switch {
	case err != nil:
		return err
	case running == nil && target.Order.Program != "":
		return fmt.Errorf("%s does not run", target.Node)
	case running == nil:
		asked := boot{self, make(chan error, 1)}
		c.boots <- asked
		return <-asked.done
	case target.Order.Program != "":
		return running.control.Call("Node.Start", target.Order, &node.Nothing{})
	}
	return nil
}

// find returns the node that a target names, and how it runs, if it does.
func (c *Control) find(target Target) (*running, plan.Node, error) {
	self, err := c.keeper.cluster.Find(target.Node)
	if err != nil {
		return nil, self, err
	}
	return c.keeper.running(self), self, nil
}

// running returns a node that runs, or nothing.
func (k *Keeper) running(self plan.Node) *running {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	found := k.nodes[self.Number]
	if found == nil {
		return nil
	}
	select {
	case <-found.ended:
		return nil
	default:
		return found
	}
}

// Dial connects to the keeper of a cluster; that fails when none runs.
func Dial(cluster plan.Cluster) (*rpc.Client, error) {
	// By way of the open folder, for the same reason as above.
	folder, err := os.Open(cluster.Folder)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	connection, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), plan.Socket))
	if err != nil {
		return nil, err
	}
	return rpc.NewClient(connection), nil
}
