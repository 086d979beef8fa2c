package main

import (
	"context"
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubeconfig files may name any way to log in.
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubescheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	nodeagent "k8s.io/kubernetes/cmd/kubelet/app"
)

func apiServer() int         { return cli.Run(apiserver.NewAPIServerCommand()) }
func controllerManager() int { return cli.Run(controllermanager.NewControllerManagerCommand()) }
func proxy() int             { return cli.Run(kubeproxy.NewProxyCommand()) }
func scheduler() int         { return cli.Run(kubescheduler.NewSchedulerCommand()) }
func kubelet() int           { return cli.Run(nodeagent.NewKubeletCommand(context.Background())) }

func kubectl() int {
	// Building the command already logs, so how much it may say has to be known before its flags are parsed.
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err) // Prints, and leaves with kubectl's own code.
	}
	return 0
}
