package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"syscall"
	"time"

	"ambit.mesh/kubernetes/internal/plan"
)

const (
	// pause before a program that ended by itself is started again: the first, and the longest.
	firstPause = 500 * time.Millisecond
	mostPause  = 10 * time.Second
	// steady is how long a program must have run for its next end to count as the first.
	steady = time.Minute
	// graceful is how long a program that was asked to stop may take.
	graceful = 15 * time.Second
)

// State is how one program of a node does.
type State struct {
	Name string
	// Wanted is false when it was stopped by hand.
	Wanted bool
	// PID is its process, as the node numbers it; zero when it does not run.
	PID int
	// Ends counts how often it ended without being asked.
	Ends int
	// Last says how it ended last, if it did.
	Last string
}

// supervisor keeps a node's programs running, and buries every process that is left to it as the first of its namespace.
type supervisor struct {
	mutex    sync.Mutex
	programs map[string]*program
	order    []string
	children map[int]*child
}

// program is a service and its life.
type program struct {
	service
	wanted bool
	now    *child
	ends   int
	last   string
	pause  time.Duration
	// wake is told when wanted may have changed.
	wake chan struct{}
}

// child is a process that we started.
type child struct {
	pid   int
	began time.Time
	// status is known once ended is closed.
	status syscall.WaitStatus
	ended  chan struct{}
}

func newSupervisor(all []service) *supervisor {
	s := &supervisor{programs: map[string]*program{}, children: map[int]*child{}}
	for _, service := range all {
		s.programs[service.name] = &program{service: service, wanted: true, wake: make(chan struct{}, 1)}
		s.order = append(s.order, service.name)
	}
	return s
}

// run starts everything, and never returns.
func (s *supervisor) run() {
	for _, name := range s.order {
		go s.keep(s.programs[name])
	}
	s.bury()
}

// keep is the life of one program.
func (s *supervisor) keep(p *program) {
	for {
		s.mutex.Lock()
		wanted := p.wanted
		s.mutex.Unlock()
		if !wanted {
			<-p.wake
			continue
		}
		s.await(p.after)
		now, err := s.start(p)
		if err != nil {
			s.note(p, err.Error())
		}
		var ran time.Duration
		if now != nil {
			<-now.ended
			ran = time.Since(now.began)
			s.note(p, describe(now.status))
		}
		s.rest(p, ran)
	}
}

// start starts a program unless it is no longer wanted.
func (s *supervisor) start(p *program) (*child, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !p.wanted {
		return nil, nil
	}
	now, err := s.spawn(p.name, p.command)
	if err == nil {
		p.now = now
	}
	return now, err
}

// spawn starts a process that writes to the log of that name. The mutex is held: the process may end, and be buried, before
// its number is known here.
func (s *supervisor) spawn(name string, command []string) (*child, error) {
	path, err := find(command[0])
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(plan.NodeLogs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	pid, err := syscall.ForkExec(path, command, &syscall.ProcAttr{
		Env:   environment,
		Dir:   "/",
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.children[pid] = &child{pid: pid, began: time.Now(), ended: make(chan struct{})}
	return s.children[pid], nil
}

// perform runs a command to its end.
func (s *supervisor) perform(name string, command ...string) error {
	s.mutex.Lock()
	run, err := s.spawn(name, command)
	s.mutex.Unlock()
	if err != nil {
		return err
	}
	<-run.ended
	if run.status != 0 {
		return fmt.Errorf("%s: %s", name, describe(run.status))
	}
	return nil
}

// rest waits before the next start, if there is to be one.
func (s *supervisor) rest(p *program, ran time.Duration) {
	s.mutex.Lock()
	p.pause = nextPause(p.pause, ran)
	pause, wanted := p.pause, p.wanted
	s.mutex.Unlock()
	if wanted {
		select {
		case <-p.wake:
		case <-time.After(pause):
		}
	}
}

// nextPause is how long to wait after a program has run that long, given the pause before: the longer the oftener it ends.
func nextPause(last, ran time.Duration) time.Duration {
	if last == 0 || ran > steady {
		return firstPause
	}
	return min(2*last, mostPause)
}

// note records that a program has ended.
func (s *supervisor) note(p *program, last string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	p.now, p.last = nil, last
	if p.wanted {
		p.ends++
	}
}

// bury takes the exit of every child and orphan. It never returns.
func (s *supervisor) bury() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == nil:
			s.buried(pid, status)
		case errors.Is(err, syscall.ECHILD):
			time.Sleep(50 * time.Millisecond) // Nobody is there to wait for.
		}
	}
}

func (s *supervisor) buried(pid int, status syscall.WaitStatus) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if ours, known := s.children[pid]; known {
		delete(s.children, pid)
		ours.status = status
		close(ours.ended)
	}
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return status.Signal().String()
	}
	return fmt.Sprintf("exit code %d", status.ExitStatus())
}

// stop ends a program and keeps it from starting again.
func (s *supervisor) stop(name string, kill bool) error {
	s.mutex.Lock()
	p, known := s.programs[name]
	if !known {
		s.mutex.Unlock()
		return s.unknown(name)
	}
	p.wanted = false
	now := p.now
	s.mutex.Unlock()
	if now == nil {
		return nil
	}
	if !kill {
		_ = syscall.Kill(now.pid, syscall.SIGTERM)
		select {
		case <-now.ended:
			return nil
		case <-time.After(graceful):
		}
	}
	_ = syscall.Kill(now.pid, syscall.SIGKILL)
	<-now.ended
	return nil
}

// begin lets a stopped program run again.
func (s *supervisor) begin(name string) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	p, known := s.programs[name]
	if !known {
		return s.unknown(name)
	}
	p.wanted = true
	select {
	case p.wake <- struct{}{}:
	default: // It is awake already.
	}
	return nil
}

func (s *supervisor) states() []State {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var states []State
	for _, name := range s.order {
		p := s.programs[name]
		state := State{Name: name, Wanted: p.wanted, Ends: p.ends, Last: p.last}
		if p.now != nil {
			state.PID = p.now.pid
		}
		states = append(states, state)
	}
	return states
}

func (s *supervisor) unknown(name string) error {
	names := append([]string(nil), s.order...)
	sort.Strings(names)
	return fmt.Errorf("the node runs no %q, only %v", name, names)
}
