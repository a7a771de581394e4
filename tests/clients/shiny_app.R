# A web application for test_shiny.py: Rscript shiny_app.R <port>. It runs as its owner, and shows who looks at it.
library(shiny)
library(dkusecrets)

told <- function(expr) tryCatch(expr, dkusecrets_error = function(cnd) class(cnd)[1])

# Standing for itself, it would be a secret that the application reads as its owner when it starts.
own <- dkuGetSecret("token")

server <- function(input, output, session) {
  request <- session$request
  output$viewer <- renderText(told(dkuGetAuthInfoFromRookRequest(request)$authIdentifier))
  output$secrets <- renderText(told({
    info <- dkuGetAuthInfoFromRookRequest(request, with_secrets = TRUE)
    paste(vapply(info$secrets, function(secret) paste0(secret$key, "=", secret$value), ""), collapse = ",")
  }))
  output$impersonated <- renderText(told(dkuImpersonateShinyCalls(request, paste0(dkuGetSecret("token"), ""))))
  output$ticket <- renderText(told(nchar(dkuGetTicketFromBrowserHeaders(list(Cookie = request$HTTP_COOKIE)))))
  output$owner <- renderText(told(dkuGetAuthInfo()$authIdentifier))
  output$same <- renderText(identical(own, dkuGetSecret("token")))
  # Something that only a change from the browser runs: the session is still the viewer's.
  output$clicked <- renderText({
    req(input$again > 0)
    told(dkuImpersonateShinyCalls(request, paste0(dkuGetSecret("token"), "")))
  })
}

line <- function(id) tags$p(textOutput(id, inline = TRUE))
ids <- c("viewer", "secrets", "impersonated", "ticket", "owner", "same", "clicked")
ui <- fluidPage(lapply(ids, line), actionButton("again", "again"))
runApp(shinyApp(ui, server), port = as.integer(commandArgs(TRUE)[1]), launch.browser = FALSE)
