"""Runs R code in a Jupyter kernel as a notebook does that answers when it is asked:

    python notebook_stdin.py <kernel.json> <code> <answer>

Prints what was asked and everything the kernel sent, as JSON. Needs jupyter_client, which comes with
jupyter-nbconvert, so the Python of that program runs it.
"""
import json
import pathlib
import sys

from jupyter_client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager


def main(specification, code, answer):
    folder = pathlib.Path(specification).parent.parent
    manager = KernelManager(kernel_name="ir", kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder)]))
    manager.start_kernel()
    client = BlockingKernelClient(connection_file=manager.connection_file)
    client.load_connection_file()
    client.start_channels()
    asked, sent = [], []

    def answer_stdin(message):
        asked.append(message["content"])
        client.input(answer)

    try:
        client.wait_for_ready(timeout=60)
        reply = client.execute_interactive(
            code, allow_stdin=True, stdin_hook=answer_stdin, output_hook=lambda m: sent.append(m["content"]), timeout=60
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    print(json.dumps({"asked": asked, "sent": sent, "status": reply["content"]["status"]}))


main(*sys.argv[1:])
