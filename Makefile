# Forwards to dev.py, which does the work on every system.
.PHONY: run test test-all lint bench messages native wheels
run test test-all lint bench messages native wheels:
	@python3 dev.py $@
