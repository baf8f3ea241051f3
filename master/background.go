package master

// background runs work, which may take its time, in a goroutine of its own. What work returns is run on the control
// goroutine.
func (s *supervisor) background(work func() (finish func())) {
	go func() { s.finished <- work() }()
}
