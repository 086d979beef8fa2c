package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"ambit.mesh/kubernetes/internal/keeper"
	"ambit.mesh/kubernetes/internal/node"
	"ambit.mesh/kubernetes/internal/plan"
)

// down ends a cluster; one that does not exist is down already.
func (o options) down(words []string) error {
	if err := nothing(words); err != nil {
		return err
	}
	cluster, err := o.plan(1)
	if err != nil {
		return err
	}
	unlock, err := lock(cluster)
	if err != nil {
		return err
	}
	defer unlock()
	if err := remove(cluster); err != nil {
		return err
	}
	return os.Remove(cluster.Folder + ".lock")
}

// status shows the nodes and what runs on them.
func (o options) status(words []string) error {
	if err := nothing(words); err != nil {
		return err
	}
	state, err := o.states()
	if err != nil {
		return err
	}
	for _, each := range state.Nodes {
		if each.PID == 0 {
			fmt.Printf("%s  stopped\n", each.Node.Name())
			continue
		}
		fmt.Printf("%s  %s  pid %d\n", each.Node.Name(), each.Node.Address(), each.PID)
		for _, program := range each.Programs {
			fmt.Printf("  %-24s %s\n", program.Name, describe(program))
		}
	}
	return nil
}

// describe says how a program does.
func describe(program node.State) string {
	said := "runs"
	switch {
	case program.PID == 0 && program.Wanted:
		said = "waits for its start"
	case program.PID == 0:
		said = "stopped"
	}
	if program.Ends > 0 {
		said += fmt.Sprintf("; ended %d times by itself, last: %s", program.Ends, program.Last)
	}
	return said
}

// kubeconfig prints where the file is.
func (o options) kubeconfig(words []string) error {
	if err := nothing(words); err != nil {
		return err
	}
	state, err := o.states()
	if err == nil {
		fmt.Println(state.Cluster.Kubeconfig())
	}
	return err
}

// load imports archives into the containerd of every node.
func (o options) load(words []string) error {
	if len(words) == 0 {
		return errors.New("name the archives to load")
	}
	state, err := o.states()
	if err != nil {
		return err
	}
	for _, path := range words {
		for _, each := range state.Nodes {
			if err := load(each, path); err != nil {
				return fmt.Errorf("%s on %s: %w", path, each.Node.Name(), err)
			}
		}
	}
	return nil
}

func load(each keeper.NodeState, path string) error {
	archive, err := os.Open(path)
	if err != nil {
		return err
	}
	defer archive.Close()
	command, err := inside(each, "ctr", "--namespace=k8s.io", "images", "import", "-")
	if err != nil {
		return err
	}
	var said bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = archive, &said, &said
	if err := command.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
	}
	return nil
}

// kubectl runs kubectl with our own input and output.
func (o options) kubectl(words []string) error {
	state, err := o.states()
	if err != nil {
		return err
	}
	return attached(o.kubectlCommand(state.Cluster, words...))
}

// outside is how the network beyond the nodes is called where a node is expected.
const outside = "outside"

// run runs a command inside a node, or on the network outside of them.
func (o options) run(words []string) error {
	if len(words) < 2 {
		return errors.New("name a node and a command")
	}
	state, err := o.states()
	if err != nil {
		return err
	}
	if words[0] == outside {
		enter := []string{"--target=" + strconv.Itoa(state.PID), "--net", "--"}
		return attached(exec.Command("nsenter", append(enter, words[1:]...)...))
	}
	wanted, err := state.Cluster.Find(words[0])
	if err != nil {
		return err
	}
	command, err := inside(state.Nodes[wanted.Number-1], words[1:]...)
	if err != nil {
		return err
	}
	return attached(command)
}

// stop stops a program, or a node.
func (o options) stop(words []string) error {
	target, err := target(words)
	if err != nil {
		return err
	}
	return o.call("Keeper.Stop", target, &node.Nothing{})
}

// start starts a program, or a node.
func (o options) start(words []string) error {
	target, err := target(words)
	if err != nil {
		return err
	}
	return o.call("Keeper.Start", target, &node.Nothing{})
}

// target reads NODE[/PROGRAM] [--kill].
func target(words []string) (keeper.Target, error) {
	var target keeper.Target
	for _, word := range words {
		switch {
		case word == "--kill":
			target.Order.Kill = true
		case target.Node == "":
			target.Node, target.Order.Program, _ = strings.Cut(word, "/")
		default:
			return target, nothing([]string{word})
		}
	}
	if target.Node == "" {
		return target, errors.New("name a node, or a program as NODE/PROGRAM")
	}
	return target, nil
}

// states asks the keeper how its cluster does.
func (o options) states() (keeper.State, error) {
	var state keeper.State
	err := o.call("Keeper.States", node.Nothing{}, &state)
	return state, err
}

// call asks the keeper for something.
func (o options) call(method string, question, answer any) error {
	cluster, err := o.plan(1)
	if err != nil {
		return err
	}
	client, err := keeper.Dial(cluster)
	if err != nil {
		return fmt.Errorf("cluster %q is not up (cargo xtask cluster up starts one)", o.name)
	}
	defer client.Close()
	return client.Call(method, question, answer)
}

// kubectlCommand is kubectl as the administrator of a cluster.
func (o options) kubectlCommand(cluster plan.Cluster, words ...string) *exec.Cmd {
	words = append([]string{"kubectl", "--kubeconfig=" + cluster.Kubeconfig()}, words...)
	return exec.Command(cluster.Program(plan.KubeProgram), words...)
}

// inside is a command in the namespaces of a node.
func inside(each keeper.NodeState, words ...string) (*exec.Cmd, error) {
	if each.PID == 0 {
		return nil, fmt.Errorf("%s is stopped", each.Node.Name())
	}
	enter := []string{"--target=" + strconv.Itoa(each.PID), "--mount", "--net", "--pid", "--uts", "--ipc", "--"}
	return exec.Command("nsenter", append(enter, words...)...), nil
}

// attached runs a command with our own input and output.
func attached(command *exec.Cmd) error {
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	return command.Run()
}

// quiet runs a command; what it says is only seen in the error.
func quiet(command *exec.Cmd, input string) error {
	command.Stdin = strings.NewReader(input)
	_, err := output(command)
	return err
}

// output runs a command and returns what it prints; complaints come in the error.
func output(command *exec.Cmd) ([]byte, error) {
	var complaints bytes.Buffer
	command.Stderr = &complaints
	printed, err := command.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(complaints.String()))
	}
	return printed, err
}
