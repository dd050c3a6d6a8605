# Forwards to dev.py, which does the work on every system.
.PHONY: run test test-all lint bench messages native
run test test-all lint bench messages native:
	@python3 dev.py $@
