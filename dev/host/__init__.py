"""A local Azure Functions host: runs the unmodified function_app.py with its HTTP, queue and timer triggers.

It stands in for Microsoft's host, which cannot be had without a download that not every machine allows. The app is
indexed and its values are converted by Microsoft's own `azure.functions` library; queues, locks and schedules live in
a storage account (Azurite). What it imitates and what it cannot: docs/local-host.md.

    python -m dev.host --port 7071

    __main__    command line, process set-up, exit codes
    run         puts the parts together, ready line, graceful stop
    config      host.json, local.settings.json, %SETTING%, connections
    loading     function_app.py -> functions
    worker      calls functions: decode, call, encode      worker_process  the same, in another process
    invocations one invocation from trigger to output bindings, with its log line
    http        HTTP triggers and /admin          routing   route templates
    queues      queue triggers                    timers    timer triggers     cron  their schedules
    storage     the storage account               logs      one line of JSON per event
    process     start_host(): a host as a child process, for tests and demos
"""
