// Package wires connects the nodes of a cluster: one bridge in the keeper's network namespace, one cable to each node.
package wires

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"

	"ambit.mesh/kubernetes/internal/plan"
)

const (
	bridge = "switch"
	// uplink is what a node calls its end of the cable.
	uplink = "eth0"
)

// Switch makes the bridge, in this process's network namespace.
func Switch() error {
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	return errors.Join(up("lo"), address(bridge, plan.Outside), up(bridge))
}

// Plug connects a node, whose first process is known here by that id.
func Plug(node plan.Node, pid int) error {
	master, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	cable := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: node.Name(), MasterIndex: master.Attrs().Index},
		PeerName:      uplink,
		PeerNamespace: netlink.NsPid(pid),
	}
	if err := netlink.LinkAdd(cable); err != nil {
		return fmt.Errorf("cable to %s: %w", node.Name(), err)
	}
	if err := up(node.Name()); err != nil {
		return err
	}
	return route(node.Pods(), node.Address())
}

// Unplug removes a node's cable, if there is one.
func Unplug(node plan.Node) error {
	link, err := netlink.LinkByName(node.Name())
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if errors.Is(err, syscall.ENODEV) {
		return nil // The kernel was faster: the other end's namespace is gone.
	}
	return err
}

// Node sets up the network of a node, in which this process runs.
func Node(self plan.Node, cluster plan.Cluster) error {
	if err := errors.Join(up("lo"), address(uplink, self.Address()), up(uplink)); err != nil {
		return err
	}
	if err := route("0.0.0.0/0", plan.Outside); err != nil {
		return err
	}
	for _, other := range cluster.Nodes {
		if other.Number != self.Number {
			if err := route(other.Pods(), other.Address()); err != nil {
				return err
			}
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return netlink.LinkSetUp(link)
}

func address(name, ip string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	network := &net.IPNet{IP: net.ParseIP(ip), Mask: net.CIDRMask(plan.NetworkBits, 32)}
	return netlink.AddrAdd(link, &netlink.Addr{IPNet: network})
}

func route(to, via string) error {
	_, network, err := net.ParseCIDR(to)
	if err != nil {
		return err
	}
	if err := netlink.RouteReplace(&netlink.Route{Dst: network, Gw: net.ParseIP(via)}); err != nil {
		return fmt.Errorf("route to %s: %w", to, err)
	}
	return nil
}
