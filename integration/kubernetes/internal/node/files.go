package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ambit.mesh/kubernetes/internal/image"
	"ambit.mesh/kubernetes/internal/pki"
	"ambit.mesh/kubernetes/internal/plan"
)

// containerdFile configures containerd, as the node sees it.
const containerdFile = "/etc/containerd/config.toml"

// sandboxImage is the archive that holds the image of sandboxes, as the node sees it.
const sandboxImage = "/opt/kube/sandbox.tar"

// plugins of the CNI that a node uses, and folders where distributions keep them.
var (
	plugins       = []string{"loopback", "ptp", "host-local", "portmap"}
	pluginFolders = []string{"/usr/lib/cni", "/usr/libexec/cni", "/opt/cni/bin"}
)

// Secrets are what all nodes of a cluster trust and the control plane signs with.
type Secrets struct {
	Authority *pki.Authority
	// Private and Public halves of the key of service account tokens.
	Private, Public []byte
}

// Prepare writes everything that a node finds when it starts. Folders as the node will see them lie in its own.
func Prepare(cluster plan.Cluster, self plan.Node, secrets Secrets) error {
	files, err := identities(self, secrets)
	if err != nil {
		return err
	}
	for path, text := range configuration(cluster, self) {
		files[path] = []byte(text)
	}
	for _, folder := range []string{"work", "opt/kube/bin", "var/lib", "var/log/kube", "var/tmp"} {
		if err := os.MkdirAll(cluster.NodeFolder(self, folder), 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink("/run", cluster.NodeFolder(self, "var/run")); err != nil {
		return err
	}
	for path, text := range files {
		target := cluster.NodeFolder(self, path)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, text, 0o600); err != nil {
			return err
		}
	}
	// Programs that run as somebody else in the node read these.
	for _, public := range []string{"etc/hosts", "etc/resolv.conf"} {
		if err := os.Chmod(cluster.NodeFolder(self, public), 0o644); err != nil {
			return err
		}
	}
	if err := image.Write(cluster.NodeFolder(self, sandboxImage), plan.PodImage, cluster.Program(plan.PodProgram)); err != nil {
		return err
	}
	return copyPlugins(cluster.NodeFolder(self, plan.NodePlugins))
}

// identities makes the certificates and keys of a node, by path.
func identities(self plan.Node, secrets Secrets) (map[string][]byte, error) {
	files := map[string][]byte{file("ca.crt"): secrets.Authority.Certificate}
	for name, subject := range kubeconfigs(self) {
		pair, err := secrets.Authority.Issue(subject)
		if err != nil {
			return nil, err
		}
		files[file(name+".kubeconfig")] = secrets.Authority.Kubeconfig(plan.APIServer(), pair)
	}
	for name, subject := range servers(self) {
		pair, err := secrets.Authority.Issue(subject)
		if err != nil {
			return nil, err
		}
		files[file(name+".crt")], files[file(name+".key")] = pair.Certificate, pair.Key
	}
	if self.Control() {
		files[file("ca.key")] = secrets.Authority.Key
		files[file("service-accounts.key")], files[file("service-accounts.pub")] = secrets.Private, secrets.Public
	}
	return files, nil
}

// kubeconfigs says who the clients of the API server on a node are: the names are those that Kubernetes gives rights to.
func kubeconfigs(self plan.Node) map[string]pki.Subject {
	subjects := map[string]pki.Subject{
		"kubelet":    {User: "system:node:" + self.Name(), Groups: []string{"system:nodes"}},
		"kube-proxy": {User: "system:kube-proxy"},
	}
	if self.Control() {
		subjects["controller-manager"] = pki.Subject{User: "system:kube-controller-manager"}
		subjects["scheduler"] = pki.Subject{User: "system:kube-scheduler"}
	}
	return subjects
}

// servers says what serves TLS on a node, and how the API server shows itself to kubelets.
func servers(self plan.Node) map[string]pki.Subject {
	subjects := map[string]pki.Subject{
		"kubelet": {User: self.Name(), Names: []string{self.Name()}, Addresses: []string{self.Address()}},
	}
	if self.Control() {
		service := "kubernetes.default.svc"
		subjects["apiserver"] = pki.Subject{
			User:      "kube-apiserver",
			Names:     []string{"localhost", "kubernetes", "kubernetes.default", service, service + "." + plan.ClusterDomain},
			Addresses: []string{"127.0.0.1", plan.APIService, self.Address()},
		}
		subjects["apiserver-kubelet"] = pki.Subject{User: "kube-apiserver-kubelet-client", Groups: []string{"system:masters"}}
	}
	return subjects
}

// configuration is every file of a node that holds no secret, by path.
func configuration(cluster plan.Cluster, self plan.Node) map[string]string {
	var hosts strings.Builder
	fmt.Fprintf(&hosts, "127.0.0.1 localhost\n")
	for _, node := range cluster.Nodes {
		fmt.Fprintf(&hosts, "%s %s\n", node.Address(), node.Name())
	}
	return map[string]string{
		"/etc/hosts":                            hosts.String(),
		"/etc/hostname":                         self.Name() + "\n",
		"/etc/resolv.conf":                      "# Names outside the cluster are nobody's here.\n",
		containerdFile:                          containerd,
		plan.NodeNetworks + "/10-pods.conflist": fmt.Sprintf(network, self.Pods()),
		file("kubelet.yaml"):                    fmt.Sprintf(kubelet, plan.DNSService, plan.ClusterDomain, cluster.NodeGroup(self)),
		file("kube-proxy.yaml"):                 fmt.Sprintf(kubeProxy, self.Name(), plan.PodRange),
	}
}

// copyPlugins gives the node plugins of its own: what is installed into it later must not meet the machine's.
func copyPlugins(target string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	for _, name := range plugins {
		text, err := findPlugin(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(target, name), text, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func findPlugin(name string) ([]byte, error) {
	for _, folder := range pluginFolders {
		if text, err := os.ReadFile(filepath.Join(folder, name)); err == nil {
			return text, nil
		}
	}
	return nil, fmt.Errorf("the CNI plugin %s is in none of %v: install the package containernetworking-plugins", name, pluginFolders)
}

const containerd = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + plan.PodImage + `"
  # Not every root may lower it.
  restrict_oom_score_adj = true
  # As newer versions have it: who is not root may serve on port 80, too.
  enable_unprivileged_ports = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
`

// network gives each pod a cable of its own to its node, which routes: replies of a Service's endpoint on the same node
// then pass the node's address translation without a bridge's help.
const network = `{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "mtu": 1500,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/cni/pods",
        "ranges": [[{"subnet": %q}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`

const kubelet = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: ` + plan.NodeKubernetes + `/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: ` + plan.NodeKubernetes + `/kubelet.crt
tlsPrivateKeyFile: ` + plan.NodeKubernetes + `/kubelet.key
clusterDNS: [%q]
clusterDomain: %q
resolvConf: /etc/resolv.conf
cgroupDriver: cgroupfs
cgroupRoot: /%s
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
evictionHard: {memory.available: 1Mi, nodefs.available: 0%%, nodefs.inodesFree: 0%%, imagefs.available: 0%%}
# Images are loaded by hand and would not come back.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
serializeImagePulls: false
registryPullQPS: 0
eventRecordQPS: 0
`

const kubeProxy = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: %q
clientConnection: {kubeconfig: ` + plan.NodeKubernetes + `/kube-proxy.kubeconfig}
clusterCIDR: %q
# Limits of the whole machine, which are not ours to change.
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`
