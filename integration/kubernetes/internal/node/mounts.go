package node

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"ambit.mesh/kubernetes/internal/plan"
)

// mounts gives this process's mount namespace the look of a machine of its own: /etc laid over the machine's, /opt and
// /var the node's (they outlive its restart), /run empty, /proc that of its process namespace. Nothing of it is seen
// outside, and all of it goes with the last process of the node.
func mounts(cluster plan.Cluster, self plan.Node) error {
	// Away from the machine's mounts first; then shared again, among the node and its pods, as Kubernetes asks.
	for _, propagation := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", unix.MS_REC|propagation, ""); err != nil {
			return fmt.Errorf("propagation of mounts: %w", err)
		}
	}
	// Held by descriptor: some of these paths vanish under the mounts below.
	held := map[string]int{}
	for target, source := range map[string]string{
		"/opt":            cluster.NodeFolder(self, "opt"),
		"/var":            cluster.NodeFolder(self, "var"),
		plan.NodePrograms: cluster.Programs,
	} {
		tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
		held[target] = tree
	}
	layers := fmt.Sprintf("lowerdir=/etc,upperdir=%s,workdir=%s", cluster.NodeFolder(self, "etc"), cluster.NodeFolder(self, "work"))
	if err := unix.Mount("overlay", "/etc", "overlay", 0, layers); err != nil {
		return fmt.Errorf("overlay on /etc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("/run: %w", err)
	}
	for _, target := range []string{"/opt", "/var", plan.NodePrograms} {
		if err := unix.MoveMount(held[target], "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
		if err := unix.Close(held[target]); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("/proc: %w", err)
	}
	if err := os.MkdirAll("/run/lock", 0o755); err != nil {
		return err
	}
	return unix.Sethostname([]byte(self.Name()))
}
