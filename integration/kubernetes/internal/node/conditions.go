package node

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ambit.mesh/kubernetes/internal/plan"
)

// interval between two looks at something that is awaited.
const interval = 100 * time.Millisecond

// environment of every program of a node. Its folders are looked through for those that the machine provides, too.
var environment = []string{"PATH=" + strings.Join(folders, ":"), "HOME=/run"}

var folders = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// await returns when a condition holds. What waited is then started in any case, so it may find that it no longer does.
func (s *supervisor) await(c condition) {
	for ; ; time.Sleep(interval) {
		var err error
		switch c {
		case nothing:
		case apiServes:
			err = apiReady()
		case sandboxes:
			err = s.loadSandboxImage()
		}
		if err == nil {
			return
		}
	}
}

// apiReady asks the API server of this node.
func apiReady() error {
	roots := x509.NewCertPool()
	text, err := os.ReadFile(file("ca.crt"))
	if err != nil {
		return err
	}
	roots.AppendCertsFromPEM(text)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
	client := http.Client{Transport: transport, Timeout: 2 * time.Second}
	response, err := client.Get(plan.APIServer() + "/readyz")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the API server is not ready: %s", response.Status)
	}
	return nil
}

// loadSandboxImage gives containerd the image of sandboxes; that fails until containerd answers.
func (s *supervisor) loadSandboxImage() error {
	if _, err := os.Stat("/run/containerd/containerd.sock"); err != nil {
		return err
	}
	return s.perform("sandbox-image", "ctr", "--connect-timeout=2s", "--namespace=k8s.io", "images", "import", sandboxImage)
}

// find looks a program up as the programs of the node would.
func find(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	for _, folder := range folders {
		path := filepath.Join(folder, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", fmt.Errorf("the program %s is in none of %v", name, folders)
}
