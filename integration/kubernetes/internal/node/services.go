package node

import (
	"path/filepath"

	"ambit.mesh/kubernetes/internal/plan"
)

// service is a program that a node keeps running.
type service struct {
	name string
	// command is the program with its arguments.
	command []string
	// after is what must be so before it is started.
	after condition
}

// condition is something that a start waits for.
type condition int

const (
	nothing condition = iota
	// apiServes: the API server says that it is ready.
	apiServes
	// sandboxes: containerd answers, and holds the image of sandboxes.
	sandboxes
)

// services lists what runs on a node, in order of their first start.
func services(self plan.Node) []service {
	kube := func(name string, arguments ...string) service {
		command := append([]string{filepath.Join(plan.NodePrograms, plan.KubeProgram), name}, arguments...)
		return service{name: name, command: command}
	}
	var all []service
	if self.Control() {
		all = append(all, kube("etcd", "--data-dir=/var/lib/etcd"), kube("kube-apiserver", apiServer(self)...))
		for _, late := range []service{kube("kube-controller-manager", controllerManager()...), kube("kube-scheduler", scheduler()...)} {
			// Both give up on a server that is not there within seconds.
			late.after = apiServes
			all = append(all, late)
		}
	}
	all = append(all, service{name: "containerd", command: []string{"containerd", "--config", containerdFile}})
	kubelet := kube("kubelet",
		"--kubeconfig="+file("kubelet.kubeconfig"),
		"--config="+file("kubelet.yaml"),
		"--hostname-override="+self.Name(),
		"--node-ip="+self.Address(),
		"--node-labels=topology.kubernetes.io/region=local,topology.kubernetes.io/zone="+zone(self))
	kubelet.after = sandboxes
	return append(all, kubelet, kube("kube-proxy", "--config="+file("kube-proxy.yaml")))
}

func apiServer(self plan.Node) []string {
	return []string{
		"--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address=" + self.Address(),
		"--secure-port=6443",
		"--tls-cert-file=" + file("apiserver.crt"),
		"--tls-private-key-file=" + file("apiserver.key"),
		"--client-ca-file=" + file("ca.crt"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--service-cluster-ip-range=" + plan.ServiceRange,
		"--service-account-issuer=https://kubernetes.default.svc." + plan.ClusterDomain,
		"--service-account-key-file=" + file("service-accounts.pub"),
		"--service-account-signing-key-file=" + file("service-accounts.key"),
		"--kubelet-client-certificate=" + file("apiserver-kubelet.crt"),
		"--kubelet-client-key=" + file("apiserver-kubelet.key"),
		"--kubelet-certificate-authority=" + file("ca.crt"),
		// Names of nodes are in no DNS: logs and exec would not find their kubelets.
		"--kubelet-preferred-address-types=InternalIP",
		"--profiling=false",
	}
}

func controllerManager() []string {
	config := file("controller-manager.kubeconfig")
	return []string{
		"--kubeconfig=" + config,
		"--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config,
		"--service-account-private-key-file=" + file("service-accounts.key"),
		"--root-ca-file=" + file("ca.crt"),
		"--cluster-signing-cert-file=" + file("ca.crt"),
		"--cluster-signing-key-file=" + file("ca.key"),
		"--use-service-account-credentials=true",
		"--leader-elect=false",
		"--profiling=false",
		// Tests take the API server away for minutes. When it is back, nodes that could not tell how they do are not dead, and
		// their pods are not to lose their endpoints.
		"--node-monitor-grace-period=5m",
	}
}

func scheduler() []string {
	config := file("scheduler.kubeconfig")
	return []string{
		"--kubeconfig=" + config,
		"--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config,
		"--leader-elect=false",
		"--profiling=false",
	}
}

// file is the path of one of Kubernetes' own files, as the node sees it.
func file(name string) string { return filepath.Join(plan.NodeKubernetes, name) }

// zone tells the nodes apart, for what prefers near endpoints.
func zone(self plan.Node) string { return "zone-" + self.Name() }
