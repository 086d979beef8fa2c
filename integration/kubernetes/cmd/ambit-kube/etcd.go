package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// startLimit is how long etcd may take until it serves.
const startLimit = time.Minute

// etcd keeps the cluster's objects, in one member that nobody but this machine reaches.
func etcd() int {
	flags := flag.NewFlagSet("etcd", flag.ExitOnError)
	folder := flags.String("data-dir", "", "folder of the database")
	port := flags.Int("client-port", 2379, "port on the loopback address that clients connect to; the next one is the member's own")
	_ = flags.Parse(os.Args[1:])

	config := embed.NewConfig()
	config.Dir = *folder
	config.LogLevel = "warn"
	// The cluster is for tests: what a crash of the machine loses is not missed.
	config.UnsafeNoFsync = true
	client := []url.URL{loopback(*port)}
	peer := []url.URL{loopback(*port + 1)}
	config.ListenClientUrls, config.AdvertiseClientUrls = client, client
	config.ListenPeerUrls, config.AdvertisePeerUrls = peer, peer
	config.InitialCluster = config.InitialClusterFromName(config.Name)

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	server, err := embed.StartEtcd(config)
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		return 1
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
	case <-time.After(startLimit):
		fmt.Fprintf(os.Stderr, "etcd: does not serve after %v\n", startLimit)
		return 1
	}
	select {
	case <-stop:
		return 0
	case err := <-server.Err():
		fmt.Fprintln(os.Stderr, "etcd:", err)
		return 1
	}
}

func loopback(port int) url.URL {
	return url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}
}
