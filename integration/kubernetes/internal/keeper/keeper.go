// Package keeper holds a cluster together: the process whose children the nodes are, and with which they all end.
package keeper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"ambit.mesh/kubernetes/internal/cgroups"
	"ambit.mesh/kubernetes/internal/node"
	"ambit.mesh/kubernetes/internal/pki"
	"ambit.mesh/kubernetes/internal/plan"
	"ambit.mesh/kubernetes/internal/wires"
)

// ListenerFile is the number of the open file that listens on the machine's loopback address for clients of the API.
const ListenerFile = 3

// Flags are the namespaces that a keeper has to be started in.
const Flags = unix.CLONE_NEWNET | unix.CLONE_NEWNS

// nodeFlags are the namespaces of a node.
const nodeFlags = unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// Keeper is the state of a running cluster.
type Keeper struct {
	cluster plan.Cluster
	mutex   sync.Mutex
	nodes   map[int]*running
}

// running is a node that runs.
type running struct {
	pid     int
	control *rpc.Client
	// ended is closed when its first process has gone, and everything of the node with it.
	ended chan struct{}
}

// Main is the keeper's process, in new network and mount namespaces. It reads its cluster as JSON from standard input and
// returns only when something fails.
func Main() error {
	// The kernel ends a node with the thread that started it; this one lives as long as the keeper.
	runtime.LockOSThread()
	var cluster plan.Cluster
	if err := json.NewDecoder(os.Stdin).Decode(&cluster); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	if err := enter(cluster); err != nil {
		return err
	}
	api, err := net.FileListener(os.NewFile(ListenerFile, "api"))
	if err != nil {
		return err
	}
	go forward(api, fmt.Sprintf("%s:%d", plan.Node{Number: 1}.Address(), plan.APIPort))
	if err := prepare(cluster, api.Addr().String()); err != nil {
		return err
	}
	keeper := &Keeper{cluster: cluster, nodes: map[int]*running{}}
	for _, node := range cluster.Nodes {
		if err := keeper.boot(node); err != nil {
			return err
		}
	}
	return keeper.serve()
}

// enter makes this process the cluster's: its control group, its mounts, its network.
func enter(cluster plan.Cluster) error {
	group := cluster.Group() + "/keeper"
	if err := cgroups.Make(group); err != nil {
		return err
	}
	if err := cgroups.Enter(group); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := os.MkdirAll(cluster.NodesFolder(), 0o755); err != nil {
		return err
	}
	var system unix.Statfs_t
	if err := unix.Statfs(cluster.NodesFolder(), &system); err != nil {
		return err
	}
	if system.Type == unix.OVERLAYFS_SUPER_MAGIC {
		// Layers cannot be laid upon layers; what the nodes write is in memory then.
		if err := unix.Mount("tmpfs", cluster.NodesFolder(), "tmpfs", 0, "mode=755"); err != nil {
			return err
		}
	}
	return wires.Switch()
}

// prepare makes the cluster's secrets and everything that its nodes and its administrator read.
func prepare(cluster plan.Cluster, api string) error {
	authority, err := pki.NewAuthority("ambit-cluster-" + cluster.Name)
	if err != nil {
		return err
	}
	secrets := node.Secrets{Authority: authority}
	if secrets.Private, secrets.Public, err = pki.SigningKey(); err != nil {
		return err
	}
	for _, each := range cluster.Nodes {
		if err := node.Prepare(cluster, each, secrets); err != nil {
			return err
		}
	}
	admin, err := authority.Issue(pki.Subject{User: "admin", Groups: []string{"system:masters"}})
	if err != nil {
		return err
	}
	return os.WriteFile(cluster.Kubeconfig(), authority.Kubeconfig("https://"+api, admin), 0o600)
}

// boot starts a node. Only the keeper's first thread may.
func (k *Keeper) boot(self plan.Node) error {
	// No control groups either: a machine that starts has none, and the kubelet takes what it finds for containers.
	if err := errors.Join(wires.Unplug(self), cgroups.Kill(k.cluster.NodeGroup(self)), cgroups.Remove(k.cluster.NodeGroup(self))); err != nil {
		return err
	}
	started, err := k.launch(self)
	if err != nil {
		return fmt.Errorf("%s: %w", self.Name(), err)
	}
	err = wires.Plug(self, started.pid)
	if err == nil {
		err = started.control.Call("Node.Wired", node.Nothing{}, &node.Nothing{})
	}
	if err != nil {
		_ = syscall.Kill(started.pid, syscall.SIGKILL)
		return fmt.Errorf("%s: %w", self.Name(), err)
	}
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.nodes[self.Number] = started
	return nil
}

// launch starts the first process of a node, which then waits for its cable.
func (k *Keeper) launch(self plan.Node) (*running, error) {
	task, err := json.Marshal(node.Task{Cluster: k.cluster, Number: self.Number})
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	defer ours.Close()
	// Once started, the other end is the node's alone: that it closes is how we learn that the node has gone.
	defer theirs.Close()
	connection, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	command := exec.Command("/proc/self/exe", "node")
	command.ExtraFiles = []*os.File{theirs}
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(task), os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: nodeFlags, Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return nil, errors.Join(err, connection.Close())
	}
	started := &running{pid: command.Process.Pid, control: rpc.NewClient(connection), ended: make(chan struct{})}
	go func() {
		err := command.Wait()
		fmt.Fprintf(os.Stderr, "%s has ended: %v\n", self.Name(), err)
		close(started.ended)
	}()
	return started, nil
}

// forward carries connections from the machine to the API server, whose network it is not in.
func forward(listener net.Listener, to string) {
	for {
		client, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "forwarding to the API server ends:", err)
			return
		}
		go func() {
			defer client.Close()
			server, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer server.Close()
			go func() {
				_, _ = io.Copy(server, client)
				_ = server.(*net.TCPConn).CloseWrite()
			}()
			_, _ = io.Copy(client, server)
		}()
	}
}
