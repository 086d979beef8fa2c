package main

import (
	"flag"
	"fmt"
	"log"
	"os"

	"github.com/coredns/caddy"
	_ "github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
)

// coredns serves the cluster's names, with the plugins that clusters use.
func coredns() int {
	flags := flag.NewFlagSet("coredns", flag.ExitOnError)
	path := flags.String("conf", "Corefile", "what to serve, in CoreDNS's own language")
	_ = flags.Parse(os.Args[1:])

	log.SetOutput(os.Stdout)
	log.SetFlags(0)
	caddy.AppName, caddy.Quiet = "CoreDNS", true
	caddy.TrapSignals()
	text, err := os.ReadFile(*path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "coredns:", err)
		return 1
	}
	instance, err := caddy.Start(caddy.CaddyfileInput{Filepath: *path, Contents: text, ServerTypeName: "dns"})
	if err != nil {
		fmt.Fprintln(os.Stderr, "coredns:", err)
		return 1
	}
	instance.Wait()
	return 0
}
