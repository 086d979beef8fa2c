// Package plan says what a cluster consists of: names, addresses, folders. It decides, and touches nothing.
package plan

import (
	"fmt"
	"hash/fnv"
	"path/filepath"
	"regexp"
)

// Addresses that are the same in every cluster: each one has network namespaces of its own, so they never meet.
const (
	ServiceRange  = "10.96.0.0/16"
	APIService    = "10.96.0.1"
	DNSService    = "10.96.0.10"
	PodRange      = "10.244.0.0/16"
	ClusterDomain = "cluster.local"
	// Outside is the keeper's address on the nodes' network: the nodes' default route, and so the place of everything
	// that is not the cluster.
	Outside = "172.30.0.254"
	// NetworkBits is the length of the prefix of the nodes' network.
	NetworkBits = 24
	// APIPort is where the API server listens on the first node.
	APIPort = 6443
	// MostNodes is what the third byte of the pods' addresses and a machine's patience have room for.
	MostNodes = 20
)

// Folders and files as a node sees them, whatever the machine's own look like.
const (
	NodePrograms   = "/opt/kube/bin"
	NodePlugins    = "/opt/cni/bin"
	NodeNetworks   = "/etc/cni/net.d"
	NodeKubernetes = "/etc/kubernetes"
	NodeLogs       = "/var/log/kube"
)

// Names of the programs that `cargo xtask cluster` builds.
const (
	KubeProgram    = "ambit-kube"
	ClusterProgram = "ambit-cluster"
	PodProgram     = "ambit-pod"
)

// Socket is where the keeper is asked things, in the cluster's folder.
const Socket = "keeper.sock"

// PodImage is the image of every sandbox and of the pods that checks start. It is made here and pulled from nowhere.
const PodImage = "cluster.ambit.mesh/pod:1"

// Cluster is one cluster on this machine.
type Cluster struct {
	// Name tells it from other clusters on the machine.
	Name string
	// Folder holds everything it writes, absolute.
	Folder string
	// Programs is the folder of the programs built for it, absolute.
	Programs string
	// Nodes in order; the first runs the control plane, too.
	Nodes []Node
}

// Node is one node of a cluster.
type Node struct {
	// Number counts from one.
	Number int
}

var names = regexp.MustCompile(`^[a-z][a-z0-9-]{0,19}$`)

// New plans a cluster below a folder that holds one folder for each cluster.
func New(name, clusters, programs string, nodes int) (Cluster, error) {
	if !names.MatchString(name) {
		return Cluster{}, fmt.Errorf("a cluster's name is up to 20 small letters, digits and hyphens, a letter first: not %q", name)
	}
	if nodes < 1 || nodes > MostNodes {
		return Cluster{}, fmt.Errorf("a cluster has 1 to %d nodes, not %d", MostNodes, nodes)
	}
	folder, err := filepath.Abs(filepath.Join(clusters, name))
	if err != nil {
		return Cluster{}, err
	}
	cluster := Cluster{Name: name, Folder: folder, Programs: programs}
	for number := 1; number <= nodes; number++ {
		cluster.Nodes = append(cluster.Nodes, Node{Number: number})
	}
	return cluster, nil
}

// Group is the control group that holds every process of the cluster, from the root of each hierarchy. Clusters of one name
// in two folders are two clusters.
func (c Cluster) Group() string {
	folder := fnv.New32a()
	_, _ = folder.Write([]byte(c.Folder)) // Never fails.
	return fmt.Sprintf("ambit-cluster-%s-%08x", c.Name, folder.Sum32())
}

// NodeGroup is the part of Group that a node's processes and pods are in.
func (c Cluster) NodeGroup(n Node) string { return c.Group() + "/" + n.Name() }

// Kubeconfig is the administrator's way in from the machine itself.
func (c Cluster) Kubeconfig() string { return filepath.Join(c.Folder, "kubeconfig") }

// KeeperLog is what the keeper says.
func (c Cluster) KeeperLog() string { return filepath.Join(c.Folder, "keeper.log") }

// NodesFolder holds a folder for each node.
func (c Cluster) NodesFolder() string { return filepath.Join(c.Folder, "nodes") }

// NodeFolder holds what a node keeps when it restarts: its /etc, /opt and /var.
func (c Cluster) NodeFolder(n Node, part ...string) string {
	return filepath.Join(append([]string{c.NodesFolder(), n.Name()}, part...)...)
}

// Program is the path of one of the programs built for the cluster.
func (c Cluster) Program(name string) string { return filepath.Join(c.Programs, name) }

// Find returns the node of that name.
func (c Cluster) Find(name string) (Node, error) {
	for _, node := range c.Nodes {
		if node.Name() == name {
			return node, nil
		}
	}
	return Node{}, fmt.Errorf("cluster %q has no node %q, only node1 to node%d", c.Name, name, len(c.Nodes))
}

// Name is what Kubernetes calls the node.
func (n Node) Name() string { return fmt.Sprintf("node%d", n.Number) }

// Address is the node's own, on the nodes' network.
func (n Node) Address() string { return fmt.Sprintf("172.30.0.%d", n.Number) }

// Pods is the range that the addresses of its pods are from.
func (n Node) Pods() string { return fmt.Sprintf("10.244.%d.0/24", n.Number) }

// Control reports whether the node runs the control plane.
func (n Node) Control() bool { return n.Number == 1 }

// APIServer is its URL for every node.
func APIServer() string { return fmt.Sprintf("https://%s:%d", Node{Number: 1}.Address(), APIPort) }
