// Command ambit-pod is what a cluster's own images hold: the program of every sandbox, and a small server and client for
// checks.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// limit is how long a client waits for anything.
const limit = 5 * time.Second

func main() {
	var err error
	switch arguments := append(os.Args[1:], "", ""); arguments[0] {
	case "", "pause":
		pause()
	case "serve":
		err = serve(arguments[1])
	case "get":
		err = get(arguments[1])
	case "lookup":
		err = lookup(arguments[1])
	default:
		err = fmt.Errorf("usage: ambit-pod [pause | serve ADDRESS | get URL | lookup NAME]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ambit-pod:", err)
		os.Exit(1)
	}
}

// pause holds a sandbox's namespaces until it is told to end, and buries what is left to it meanwhile.
func pause() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
	}
}

// serve answers every request with the name of the pod, until it is told to end.
func serve(address string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	handler := http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		fmt.Fprintln(answer, name)
		fmt.Println(request.RemoteAddr, request.Method, request.URL)
	})
	server := http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: limit}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-stop
		_ = server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// get prints what a URL holds.
func get(url string) error {
	client := http.Client{Timeout: limit}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

// lookup prints the addresses of a name.
func lookup(name string) error {
	deadline, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(deadline, name)
	for _, address := range addresses {
		fmt.Println(address)
	}
	return err
}
