package command

// Waiting is how many commands are in the queue, not counting those taken up.
func (s *Service) Waiting() int { return len(s.queue) }

// InFlight is how many idempotency keys are in flight.
func (s *Service) InFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.inFlight)
}
